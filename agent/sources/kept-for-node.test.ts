import { isDeepStrictEqual } from "node:util";
import { expect, test } from "vitest";
import { parseObject } from "../../cluster/objects/parse.ts";
import { createNat } from "../../wasm-nat/nat.ts";
import { keptForNode } from "./kept-for-node.ts";

const SERVICE = {
  apiVersion: "v1",
  kind: "Service",
  metadata: {
    name: "web",
    namespace: "shop",
    uid: "6f1c",
    creationTimestamp: "2026-01-31T12:00:00Z",
    labels: { app: "web", "helm.sh/chart": "web-1.2.3" },
    annotations: { "fairlead.dev/balance": "round-robin", "example.com/owner": "someone" },
  },
  spec: {
    type: "LoadBalancer",
    clusterIPs: ["172.30.0.41"],
    selector: { app: "web" },
    externalTrafficPolicy: "Local",
    healthCheckNodePort: 31_000,
    sessionAffinity: "ClientIP",
    loadBalancerSourceRanges: ["203.0.113.0/24"],
    ports: [{ name: "http", port: 80, nodePort: 30_080 }],
  },
  status: { loadBalancer: { ingress: [{ ip: "198.51.100.7" }] } },
};

const SLICE = {
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: {
    name: "web-1",
    namespace: "shop",
    uid: "7a2d",
    labels: { "kubernetes.io/service-name": "web", app: "web" },
    annotations: { "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-31T12:00:00Z", other: "x" },
  },
  addressType: "IPv4",
  ports: [{ name: "http", port: 8080 }],
  endpoints: [
    { addresses: ["10.180.0.11"], nodeName: "node-a", zone: "a", targetRef: { kind: "Pod", name: "web-0" } },
    {
      addresses: ["10.180.1.11"],
      nodeName: "node-b",
      conditions: { ready: false, serving: true, terminating: true },
    },
    { addresses: ["10.180.1.12"], hostname: "third", hints: { forZones: [{ name: "a" }], forNodes: [] } },
  ],
};

function read(raw: object) {
  const [object] = parseObject(raw).objects;
  if (object === undefined) throw new Error("it is an object");
  return object;
}

test("what people and controllers write into metadata is not kept; what means something to a node is", () => {
  const service = keptForNode(read(SERVICE));
  expect(service.meta).toEqual({
    namespace: "shop",
    name: "web",
    uid: "6f1c",
    creationTimestamp: "2026-01-31T12:00:00Z",
    labels: {},
    annotations: { "fairlead.dev/balance": "round-robin" },
  });
  const slice = keptForNode(read(SLICE));
  expect(slice.meta).toEqual({
    namespace: "shop",
    name: "web-1",
    labels: {},
    annotations: { "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-31T12:00:00Z" },
  });
  expect(JSON.stringify([service, slice])).not.toMatch(/helm|web-0|third|selector/);
  const proxied = {
    ...SERVICE,
    metadata: { ...SERVICE.metadata, labels: { "service.kubernetes.io/headless": "" } },
  };
  expect(keptForNode(read(proxied)).meta.labels).toEqual({ "service.kubernetes.io/headless": "" });
});

test("the compiler makes the same of it", async () => {
  const rules = async (keep: typeof keptForNode): Promise<string> => {
    const nat = await createNat();
    const addresses = { IPv4: ["192.168.0.2"], IPv6: [] };
    nat.configure({
      backend: "nftables",
      node: { name: "node-a", zone: "a", addresses },
      families: ["IPv4"],
    });
    const objects = [SERVICE, SLICE].map((raw) => keep(read(raw)));
    nat.apply({
      services: objects.filter((object) => object.kind === "Service"),
      endpointSlices: objects.filter((object) => object.kind === "EndpointSlice"),
    });
    nat.plan();
    return nat
      .render()
      .map(({ text }) => new TextDecoder().decode(text))
      .join("\n");
  };
  const whole = await rules((object) => object);
  expect(whole).toContain("10.180.0.11");
  expect(await rules(keptForNode)).toBe(whole);
});

test("what is kept reads like the object", () => {
  const pairs = [SERVICE, SLICE].map((raw) => [read(raw), keptForNode(read(raw))] as const);
  const fields = (object: object, without: readonly string[]) =>
    Object.keys(object).filter((field) => !without.includes(field));
  const at = (object: object, field: string): unknown => Reflect.get(object, field);
  for (const [object, kept] of pairs) {
    for (const field of fields(object, ["meta", "selector", "endpoints"]))
      expect(at(kept, field), field).toEqual(at(object, field));
  }
  const [slice, kept] = pairs[1] ?? [];
  if (slice?.kind !== "EndpointSlice" || kept?.kind !== "EndpointSlice") throw new Error("they are slices");
  expect(kept.endpoints).toHaveLength(slice.endpoints.length);
  for (const [index, endpoint] of slice.endpoints.entries()) {
    for (const field of fields(endpoint, ["hostname", "pod"]))
      expect(at(kept.endpoints[index] ?? {}, field), field).toEqual(at(endpoint, field));
  }
});

test("an object that comes again is the same only if nothing that counts has changed", () => {
  const again = (raw: object) =>
    isDeepStrictEqual(keptForNode(read(raw)), keptForNode(read(structuredClone(raw))));
  expect([again(SERVICE), again(SLICE)]).toEqual([true, true]);
  const { metadata, spec, status } = SERVICE;
  const others: readonly object[] = [
    { ...SERVICE, metadata: { ...metadata, uid: "7a1c" } },
    { ...SERVICE, metadata: { ...metadata, creationTimestamp: "2026-01-31T12:00:01Z" } },
    { ...SERVICE, metadata: { ...metadata, annotations: { "fairlead.dev/balance": "maglev" } } },
    { ...SERVICE, metadata: { ...metadata, labels: { "service.kubernetes.io/headless": "" } } },
    { ...SERVICE, spec: { ...spec, clusterIPs: ["172.30.0.42"] } },
    { ...SERVICE, spec: { ...spec, ports: [{ name: "http", port: 81, nodePort: 30_080 }] } },
    { ...SERVICE, spec: { ...spec, externalTrafficPolicy: "Cluster" } },
    { ...SERVICE, spec: { ...spec, sessionAffinity: "None" } },
    { ...SERVICE, status: { ...status, loadBalancer: {} } },
  ];
  for (const other of others)
    expect(
      isDeepStrictEqual(keptForNode(read(SERVICE)), keptForNode(read(other))),
      JSON.stringify(other),
    ).toBe(false);
  const [first, ...rest] = SLICE.endpoints;
  const otherSlices: readonly object[] = [
    { ...SLICE, endpoints: [...rest, first] },
    { ...SLICE, endpoints: [{ ...first, addresses: ["10.180.0.12"] }, ...rest] },
    { ...SLICE, endpoints: [{ ...first, nodeName: "node-b" }, ...rest] },
    { ...SLICE, endpoints: [{ ...first, zone: "b" }, ...rest] },
    { ...SLICE, endpoints: [{ ...first, conditions: { ready: false } }, ...rest] },
    { ...SLICE, endpoints: [{ ...first, hints: { forZones: [{ name: "a" }] } }, ...rest] },
    { ...SLICE, ports: [{ name: "http", port: 8081 }] },
    { ...SLICE, metadata: { ...SLICE.metadata, annotations: {} } },
    { ...SLICE, metadata: { ...SLICE.metadata, labels: { "kubernetes.io/service-name": "other" } } },
  ];
  for (const other of otherSlices)
    expect(isDeepStrictEqual(keptForNode(read(SLICE)), keptForNode(read(other))), JSON.stringify(other)).toBe(
      false,
    );
});

test("a time is kept as it was written", () => {
  const service = read(SERVICE);
  if (service.kind !== "Service") throw new Error("it is a Service");
  const times = ["2026-01-31T12:00:00.25Z", "2026-01-31T13:00:00+01:00", "1969-12-31T23:59:59Z", "long ago"];
  for (const creationTimestamp of times) {
    const { meta } = keptForNode({ ...service, meta: { ...service.meta, creationTimestamp } });
    expect(meta.creationTimestamp).toBe(creationTimestamp);
  }
});

test("what is alike is kept once", () => {
  const [one, other] = [keptForNode(read(SLICE)), keptForNode(read(SLICE))];
  if (one.kind !== "EndpointSlice" || other.kind !== "EndpointSlice") throw new Error("they are slices");
  expect(one.ports).toBe(other.ports);
});
