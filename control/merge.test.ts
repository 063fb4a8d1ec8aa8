import { expect, test } from "vitest";
import { buildClusterModel } from "../cluster/build.ts";
import { readManifestText } from "../cluster/files.ts";
import type { EdgeConfig, HostConfig } from "../edge-config/config.ts";
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
