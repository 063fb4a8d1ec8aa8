import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { buildClusterModel } from "./build.ts";
import { readManifestText } from "./files.ts";
import type { ClusterModel } from "./model.ts";

function build(yaml: string): ClusterModel {
  const { objects, diagnostics } = readManifestText(yaml, "test.yaml");
  expect(diagnostics).toEqual([]);
  return buildClusterModel(objects).model;
}

const SERVICE =
  "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}\n";
const SLICE = (name: string, address: string): string =>
  `---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: ${name}, namespace: shop, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{name: http, port: 80}]\nendpoints: [{addresses: [${address}]}]\n`;
const ENDPOINTS =
  "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{addresses: [{ip: 10.0.0.9}], ports: [{name: http, port: 80}]}]\n";
const POD = (
  name: string,
  more: { labels?: string; status?: string; port?: number; meta?: string } = {},
): string =>
  `---\napiVersion: v1\nkind: Pod\nmetadata: {name: ${name}, namespace: shop, labels: {${more.labels ?? "app: web"}}${more.meta ?? ""}}\nspec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: ${more.port ?? 8080}}]}]}\nstatus: {${more.status ?? "podIP: 10.0.0.7"}}\n`;

function endpointsOf(model: ClusterModel): readonly string[] {
  return (model.endpointSlices.get("shop/web") ?? []).flatMap((slice) =>
    slice.endpoints.flatMap((endpoint) =>
      slice.ports.map(
        (port) =>
          `${slice.source} ${endpoint.addresses.join()}:${port.port}${endpoint.ready ? "" : " not ready"}`,
      ),
    ),
  );
}

describe("where the endpoints of a Service come from", () => {
  test.each<[string, string, readonly string[]]>([
    [
      "slices, in the order of their names",
      SERVICE + SLICE("web-b", "10.0.0.2") + SLICE("web-a", "10.0.0.1"),
      ["EndpointSlice 10.0.0.1:80", "EndpointSlice 10.0.0.2:80"],
    ],
    [
      "slices before Endpoints and Pods",
      SERVICE + ENDPOINTS + SLICE("web-a", "10.0.0.1") + POD("p"),
      ["EndpointSlice 10.0.0.1:80"],
    ],
    ["Endpoints before Pods", SERVICE + ENDPOINTS + POD("p"), ["Endpoints 10.0.0.9:80"]],
    [
      "a slice that has the name of the Endpoints",
      SERVICE + ENDPOINTS + SLICE("web-0-ipv4", "10.0.0.1"),
      ["EndpointSlice 10.0.0.1:80"],
    ],
    ["Pods", SERVICE + POD("p"), ["Pods 10.0.0.7:8080"]],
    [
      "an empty slice, though Pods are there",
      `${SERVICE}${SLICE("web-a", "10.0.0.1").replace("[{addresses: [10.0.0.1]}]", "[]")}${POD("p")}`,
      [],
    ],
    ["Pods with other labels", SERVICE + POD("p", { labels: "app: other" }), []],
    [
      "Pods with more labels",
      SERVICE + POD("p", { labels: "app: web, tier: front" }),
      ["Pods 10.0.0.7:8080"],
    ],
    [
      "Pods that are not ready",
      SERVICE + POD("p", { status: 'podIP: 10.0.0.7, conditions: [{type: Ready, status: "False"}]' }),
      ["Pods 10.0.0.7:8080 not ready"],
    ],
    [
      "Pods that are being deleted",
      SERVICE + POD("p", { meta: ', deletionTimestamp: "2026-01-01T00:00:00Z"' }),
      ["Pods 10.0.0.7:8080 not ready"],
    ],
    ["Pods without an address", SERVICE + POD("p", { status: "phase: Pending" }), []],
    [
      "Pods that have come to their end",
      SERVICE + POD("p", { status: "phase: Succeeded, podIP: 10.0.0.7" }),
      [],
    ],
    [
      "Pods that give a named port different numbers",
      SERVICE + POD("p") + POD("q", { port: 9090, status: "podIP: 10.0.0.8" }),
      ["Pods 10.0.0.7:8080", "Pods 10.0.0.8:9090"],
    ],
    [
      "one address of a Pod with two, of its own family first",
      SERVICE + POD("p", { status: 'podIP: 10.0.0.7, podIPs: [{ip: 10.0.0.7}, {ip: "fd00::7"}]' }),
      ["Pods 10.0.0.7:8080"],
    ],
    [
      "the family of the Service",
      SERVICE.replace("{selector", '{clusterIP: "fd00:1::1", selector') +
        POD("p", { status: 'podIPs: [{ip: 10.0.0.7}, {ip: "fd00::7"}]' }),
      ["Pods fd00::7:8080"],
    ],
    [
      "Pods that are not ready, where the Service wants them",
      SERVICE.replace("{selector", "{publishNotReadyAddresses: true, selector") +
        POD("p", { status: 'podIP: 10.0.0.7, conditions: [{type: Ready, status: "False"}]' }),
      ["Pods 10.0.0.7:8080"],
    ],
    ["no Pods for a Service without selector", SERVICE.replace("selector: {app: web}, ", "") + POD("p"), []],
    ["no Pods for an empty selector", SERVICE.replace("{app: web}", "{}") + POD("p"), []],
  ])("%s", (_name, yaml, want) => {
    expect(endpointsOf(build(yaml))).toEqual(want);
  });

  test("a derived endpoint knows its Pod, node and zone", () => {
    const node =
      "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}\n";
    const model = build(SERVICE + POD("p") + node);
    expect(model.endpointSlices.get("shop/web")?.[0]?.endpoints[0]).toMatchObject({
      nodeName: "n1",
      zone: "z1",
      pod: "shop/p",
    });
  });
});

test("objects in any order give the same model, in the same order", () => {
  const yaml = `${SERVICE}${SLICE("web-b", "10.0.0.2")}${SLICE("web-a", "10.0.0.1")}${ENDPOINTS}${POD("p")}${POD("q", { status: "podIP: 10.0.0.8" })}${SERVICE.replace("name: web", "name: api").replace(/^/, "---\n")}`;
  const { objects } = readManifestText(yaml, "test.yaml");
  const text = (model: ClusterModel): string =>
    JSON.stringify(Object.values(model).map((map: ReadonlyMap<string, unknown>) => [...map]));
  const want = text(buildClusterModel(objects).model);
  fc.assert(
    fc.property(fc.shuffledSubarray([...objects], { minLength: objects.length }), (shuffled) => {
      expect(text(buildClusterModel(shuffled).model)).toBe(want);
    }),
    { numRuns: 100 },
  );
});

test("one object twice is told, and order does not decide", () => {
  const [a] = readManifestText(SERVICE, "a.yaml").objects;
  const [b] = readManifestText(SERVICE.replace("port: 80", "port: 81"), "b.yaml").objects;
  if (a === undefined || b === undefined) throw new Error("the test's manifests are broken");
  const one = buildClusterModel([a, b]);
  const other = buildClusterModel([b, a]);
  expect(one.model.services).toEqual(other.model.services);
  expect(one.diagnostics).toMatchObject([{ severity: "warning", kind: "Service", object: "shop/web" }]);
});
