import fc from "fast-check";
import { expect, test } from "vitest";
import { buildClusterModel } from "../cluster/build.ts";
import { readManifestText } from "../cluster/files.ts";
import type { ClusterModel, Ingress, ObjectName } from "../cluster/model.ts";
import { SortedMap } from "../cluster/sorted-map.ts";
import type { EdgeConfig, HostConfig } from "../edge-config/config.ts";
import { ingress, modelOf, service, slice } from "../tests/cluster-model.ts";
import { type CompiledEdge, createEdgeCompiler } from "./edge.ts";
import { type ClusterConfig, createMerger } from "./merge.ts";
import { readOwnershipRules } from "./ownership.ts";

const noModel = buildClusterModel([]).model;

function cluster(name: string, hosts: readonly string[], policies?: object): ClusterConfig {
  const host: HostConfig = {
    matching: "kubernetes",
    routes: [
      {
        path: "/",
        pathType: "Prefix",
        ingress: "shop/web",
        backend: "shop/web:80",
        ...(policies === undefined ? {} : { policies }),
      },
    ],
  };
  const config: EdgeConfig = {
    version: 1,
    hosts: Object.fromEntries(hosts.map((one) => [one, host])),
    backends: { "shop/web:80": { namespace: "shop", service: "web", port: "80", endpoints: [`${name}:80`] } },
  };
  return { cluster: name, model: noModel, config };
}

const free = readOwnershipRules(undefined);

test("one cluster's configuration is handed on as it is", () => {
  const only = cluster("a", ["a.example"]);
  expect(createMerger(free).merge([only]).config).toBe(only.config);
});

test("what did not change is the same object in the next merge, as the writer of shards wants it", () => {
  const merger = createMerger(free);
  const [a, b] = [cluster("a", ["a.example"]), cluster("b", ["b.example"])];
  const first = merger.merge([a, b]).config;
  const second = merger.merge([a, cluster("b", ["b.example", "c.example"])]).config;
  expect(second.hosts["a.example"]).toBe(first.hosts["a.example"]);
  expect(second.backends["a:shop/web:80"]).toBe(first.backends["a:shop/web:80"]);
});

test("backends are told apart wherever a policy names them", () => {
  const canary = { canary: { backend: "shop/web:80", weight: 5, rules: [{ backend: "shop/web:80" }] } };
  const { config } = createMerger(free).merge([
    cluster("a", ["a.example"], canary),
    cluster("b", ["b.example"]),
  ]);
  expect(JSON.stringify(config.hosts["a.example"])).not.toContain('"shop/web:80"');
  expect(config.hosts["a.example"]?.routes[0]).toMatchObject({
    backend: "a:shop/web:80",
    policies: { canary: { backend: "a:shop/web:80", rules: [{ backend: "a:shop/web:80" }] } },
  });
  expect(Object.keys(config.backends).sort()).toEqual(["a:shop/web:80", "b:shop/web:80"]);
});

test("a contested host without dates goes to the first cluster by name, and the loser is told once an Ingress", () => {
  const { config, diagnostics } = createMerger(free).merge([
    cluster("a", ["x.example"]),
    cluster("b", ["x.example"]),
  ]);
  expect(config.hosts["x.example"]?.routes[0]?.backend).toBe("a:shop/web:80");
  expect(diagnostics).toHaveLength(1);
  expect(diagnostics[0]).toMatchObject({ cluster: "b", object: "shop/web", severity: "error" });
});

/** One step of two clusters: which of them, which Ingress, its host and its age; or that it goes. */
const step = fc.record({
  cluster: fc.constantFrom("a", "b"),
  name: fc.constantFrom<ObjectName>("shop/w", "shop/x", "blog/y", "blog/z"),
  host: fc.constantFrom("one.example", "two.example", "three.example", "kept.example"),
  created: fc.constantFrom(undefined, "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"),
  isGone: fc.boolean(),
  endpoint: fc.nat(3),
});

test("changes of clusters, one after the other, give what all at once give, and the delta tells them", () => {
  const rule = { host: "kept.example", cluster: "b" };
  const policies = [
    undefined,
    { hosts: [rule] },
    { sharing: "namespace" },
    { sharing: "namespace", hosts: [rule] },
  ];
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), fc.constantFrom(...policies), (steps, policy) => {
      const edge = createEdgeCompiler({}, readOwnershipRules(policy));
      const states = new Map<string, ClusterModel>();
      let before: CompiledEdge | undefined;
      for (const { cluster: name, name: ingressName, host, created, isGone, endpoint } of steps) {
        const last = states.get(name) ?? asWatched(modelOf(service("shop/web", ["http=80>8080"])));
        const made = ingress(ingressName, {
          rules: { [host]: ["/ web:80"] },
          ...(created === undefined ? {} : { created }),
        });
        const slices = [slice("shop/web", ["http=8080"], [`10.0.0.${endpoint}`])];
        const model: ClusterModel = {
          ...last,
          ingresses: (last.ingresses as SortedMap<ObjectName, Ingress>).with(
            new Map<ObjectName, Ingress | undefined>([[ingressName, isGone ? undefined : made]]),
          ),
          endpointSlices: new Map([["shop/web", slices]]),
        };
        states.set(name, model);
        const now = edge.update(name, { model, diagnostics: [], receivedAtMs: 0 });
        const anew = createEdgeCompiler({}, readOwnershipRules(policy));
        let all: CompiledEdge | undefined;
        for (const [one, state] of states)
          all = anew.update(one, { model: state, diagnostics: [], receivedAtMs: 0 });
        expect(JSON.stringify(now.config)).toBe(JSON.stringify(all?.config));
        expect(now.diagnostics).toEqual(all?.diagnostics);
        expect(new Map(now.hosts)).toEqual(new Map(Object.entries(now.config.hosts)));
        expect(new Map(now.backends)).toEqual(new Map(Object.entries(now.config.backends)));
        if (now.delta !== undefined) {
          expect(now.delta.since).toBe(before?.config);
          expect({
            hosts: withChanges(now.delta.since.hosts, now.delta.hosts),
            backends: withChanges(now.delta.since.backends, now.delta.backends),
          }).toEqual({ hosts: now.config.hosts, backends: now.config.backends });
        } else expect(before === undefined || now.clusters.length > before.clusters.length).toBe(true);
        before = now;
      }
    }),
    { numRuns: 200 },
  );
});

function asWatched(model: ClusterModel): ClusterModel {
  return { ...model, ingresses: SortedMap.from(model.ingresses) };
}

function withChanges<T>(
  record: Readonly<Record<string, T>>,
  changes: ReadonlyMap<string, T | undefined>,
): Readonly<Record<string, T | undefined>> {
  const entries = Object.entries<T | undefined>({ ...record, ...Object.fromEntries(changes) });
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

const TWO_NAMESPACES = ["old", "young"]
  .map(
    (namespace, at) => `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: web, namespace: ${namespace}, creationTimestamp: "202${at}-01-01T00:00:00Z" }
spec:
  rules:
    - host: shop.example
      http: { paths: [{ path: /${namespace}, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } }] }
    - host: ${namespace}.example
      http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } }] }
---`,
  )
  .join("");

test("namespaces share a host unless told otherwise; then it belongs to the oldest one", () => {
  const { model } = buildClusterModel(readManifestText(TWO_NAMESPACES, "test").objects);
  expect(free.restrict("a", model).model).toBe(model);
  const rules = readOwnershipRules({ sharing: "namespace" });
  const restricted = rules.restrict("a", model);
  expect(restricted.model.ingresses.get("old/web")).toBe(model.ingresses.get("old/web"));
  expect(restricted.model.ingresses.get("young/web")?.rules.map(({ host }) => host)).toEqual([
    "young.example",
  ]);
  expect(restricted.diagnostics).toMatchObject([
    { object: "young/web", message: expect.stringContaining("the namespace old") },
  ]);
  expect(rules.restrict("a", model).model.ingresses.get("young/web")).toBe(
    restricted.model.ingresses.get("young/web"),
  );
});

test("a rule gives a host to a namespace whatever its age, and to names below it", () => {
  const { model } = buildClusterModel(readManifestText(TWO_NAMESPACES, "test").objects);
  const rules = readOwnershipRules({
    sharing: "namespace",
    hosts: [
      { host: "shop.example", namespace: "young" },
      { host: "*.example", cluster: "b" },
    ],
  });
  const { ingresses } = rules.restrict("b", model).model;
  expect(ingresses.get("old/web")?.rules.map(({ host }) => host)).toEqual(["old.example"]);
  expect(ingresses.get("young/web")?.rules.map(({ host }) => host)).toEqual([
    "shop.example",
    "young.example",
  ]);
  expect(rules.restrict("a", model).model.ingresses.get("old/web")?.rules).toEqual([]);
});

test.each([
  ["a list", []],
  ["an unknown field", { host: [] }],
  ["a rule without a host", { hosts: [{ cluster: "a" }] }],
  ["an unknown kind of sharing", { sharing: "nobody" }],
])("a policy that is %s is refused with a sentence", (_, value) => {
  expect(() => readOwnershipRules(value)).toThrow("The host-ownership policy is wrong");
});
