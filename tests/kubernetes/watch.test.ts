/** `cluster/watch` against a real API server: lists, watches, gaps, losses. */

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { connectKubernetes, type KubernetesApi } from "../../cluster/watch/api.ts";
import {
  type ClusterSnapshot,
  type ClusterWatch,
  type ClusterWatchOptions,
  watchCluster,
} from "../../cluster/watch/cluster-watch.ts";
import type { ReflectorNote } from "../../cluster/watch/reflector.ts";
import { ApiServer, type Manifest } from "./support/api-server.ts";
import { eventually } from "./support/local-edge.ts";
import { ingress, namespace, service, slice } from "./support/objects.ts";

let server: ApiServer;
const running: Follower[] = [];

beforeAll(async () => {
  server = await ApiServer.start();
  await server.apply(namespace("shop"), namespace("blog"));
});
afterEach(() => {
  for (const follower of running.splice(0)) follower.close();
});
afterAll(async () => {
  await server?.remove();
});

class Follower {
  readonly snapshots: ClusterSnapshot[] = [];
  readonly notes: ReflectorNote[] = [];
  readonly api: KubernetesApi;
  readonly watch: ClusterWatch;

  constructor(options: Partial<ClusterWatchOptions> = {}) {
    this.api = options.api ?? connectKubernetes({ kubeconfig: server.kubeconfig });
    this.watch = watchCluster({
      api: this.api,
      kinds: ["Ingress", "Service", "EndpointSlice"],
      distanceMs: 0,
      onSnapshot: (snapshot) => this.snapshots.push(snapshot),
      onNote: (_, note) => this.notes.push(note),
      ...options,
    });
    running.push(this);
  }

  get model(): ClusterSnapshot["model"] | undefined {
    return this.snapshots.at(-1)?.model;
  }

  /** Addresses of a Service's endpoints, by commas. */
  addresses(name: string): string | undefined {
    return this.model?.endpointSlices
      .get(`shop/${name}`)
      ?.flatMap(({ endpoints }) => endpoints.flatMap(({ addresses }) => addresses))
      .join();
  }

  async until(isRight: () => boolean, seconds?: number): Promise<void> {
    await eventually(async () => this.snapshots.length, isRight, seconds);
  }

  close(): void {
    this.watch.close();
    this.api.close();
  }
}

test("the first model holds every list, more than a page of it; changes arrive, and touches do not", async () => {
  const many = Array.from({ length: 620 }, (_, index) =>
    service(`svc-${String(index).padStart(3, "0")}`, "shop"),
  );
  for (let at = 0; at < many.length; at += 20)
    await Promise.all(many.slice(at, at + 20).map((one) => server.apply(one)));
  await server.apply(
    slice("svc-000", ["10.0.0.1"], "shop"),
    ingress("a", "a.example.com", { namespace: "shop" }),
  );
  const follower = new Follower();
  await follower.until(() => follower.snapshots.length > 0);
  const [first] = follower.snapshots;
  expect(
    [...(first?.model.services.keys() ?? [])].filter((name) => name.startsWith("shop/svc-")),
  ).toHaveLength(620);
  expect([...(first?.model.services.keys() ?? [])]).toEqual([...(first?.model.services.keys() ?? [])].sort());
  expect(follower.addresses("svc-000")).toBe("10.0.0.1");

  await server.apply({
    ...service("svc-001", "shop"),
    metadata: { name: "svc-001", namespace: "shop", finalizers: ["a.b/c"] },
  } as Manifest);
  await server.apply(service("svc-001", "shop"));
  await server.apply(slice("svc-000", ["10.0.0.2"], "shop"));
  await follower.until(() => follower.addresses("svc-000") === "10.0.0.2");
  expect(follower.model?.services).toBe(first?.model.services);
  expect(follower.model?.ingresses).toBe(first?.model.ingresses);

  await server.delete(slice("svc-000", [], "shop"));
  await follower.until(() => follower.addresses("svc-000") === undefined);
});

test("nothing is told while one list is missing", async () => {
  // May list all but Ingresses.
  await server.apply(
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "half", namespace: "shop" } },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: "half" },
      rules: [
        { apiGroups: [""], resources: ["services"], verbs: ["list", "watch"] },
        { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
      ],
    } as Manifest,
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "half" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "half" },
      subjects: [{ kind: "ServiceAccount", name: "half", namespace: "shop" }],
    } as Manifest,
  );
  const follower = new Follower({
    api: connectKubernetes({ kubeconfig: await server.kubeconfigOf("shop", "half") }),
  });
  await eventually(
    async () => follower.watch.status().filter(({ listed }) => listed).length,
    (listed) => listed === 2,
  );
  const ingresses = (): string =>
    follower.watch.status().find(({ kind }) => kind === "Ingress")?.trouble?.message ?? "";
  await eventually(
    async () => ingresses(),
    (message) => message.includes("403"),
  );
  expect(follower.watch.problem()).toMatch(/^The watch on Ingress is disconnected since .*: 403 .*forbidden/);
  expect(follower.snapshots).toEqual([]);

  await server.apply({
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRole",
    metadata: { name: "half" },
    rules: [
      { apiGroups: [""], resources: ["services"], verbs: ["list", "watch"] },
      { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
      { apiGroups: ["networking.k8s.io"], resources: ["ingresses"], verbs: ["list", "watch"] },
    ],
  } as Manifest);
  await follower.until(() => follower.snapshots.length > 0);
  expect(follower.watch.problem()).toBeUndefined();
});

test("namespaces and label selectors", async () => {
  const labelled = ingress("labelled", "l.example.com", { namespace: "shop" });
  await server.apply(
    { ...labelled, metadata: { ...labelled.metadata, labels: { edge: "yes" } } } as Manifest,
    ingress("plain", "p.example.com", { namespace: "shop" }),
    ingress("elsewhere", "e.example.com", { namespace: "blog" }),
  );
  const follower = new Follower({ namespaces: ["shop"], labelSelectors: { Ingress: "edge=yes" } });
  await follower.until(() => follower.snapshots.length > 0);
  expect([...(follower.model?.ingresses.keys() ?? [])]).toEqual(["shop/labelled"]);
  // A label that goes takes the Ingress out of sight.
  await server.apply(labelled);
  await follower.until(() => follower.model?.ingresses.size === 0);
});

test("named objects: one watch each, then one for many; what is no longer named is forgotten", async () => {
  const names = Array.from({ length: 14 }, (_, index) => `named-${String(index).padStart(2, "0")}`);
  await server.apply(
    ...names.map(
      (name) =>
        ({
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: { name, namespace: "shop" },
          data: { name },
        }) as Manifest,
    ),
  );
  let wanted = names.slice(0, 2);
  const follower = new Follower({
    references: () => ({
      secrets: new Set(),
      configMaps: new Set(wanted.map((name) => `shop/${name}` as const)),
    }),
  });
  const held = (): string => [...(follower.model?.configMaps.keys() ?? [])].join();
  const expected = (): string => wanted.map((name) => `shop/${name}`).join();
  await follower.until(() => follower.snapshots.length > 0);
  expect(held()).toBe(expected());
  for (const next of [names, names.slice(3), names.slice(12), []]) {
    wanted = next;
    await server.apply(slice("ticker", [`10.0.9.${next.length + 1}`], "shop"));
    await follower.until(() => follower.addresses("ticker") === `10.0.9.${next.length + 1}`);
    await follower.until(() => held() === expected());
  }
});

test("410 Gone: etcd forgot our version while we were away, and one list closes the gap", async () => {
  await server.stop();
  // Without its watch cache the server asks etcd for every version.
  await server.start("--watch-cache=false");
  await server.apply(service("gap", "shop"), slice("gap", ["10.0.3.1"], "shop"), service("going", "shop"));
  const follower = new Follower({ backoff: { firstMs: 4_000, longestMs: 4_000 } });
  await follower.until(() => follower.addresses("gap") === "10.0.3.1");
  const before = follower.model;
  follower.api.disconnect();
  await server.apply(slice("gap", ["10.0.3.2"], "shop"));
  await server.delete(service("going", "shop"));
  // The versions in between, and the one that we know, are compacted away.
  await server.apply(slice("gap", ["10.0.3.3"], "shop"));
  await server.compact();
  await follower.until(
    () => follower.addresses("gap") === "10.0.3.3" && !follower.model?.services.has("shop/going"),
  );
  expect(
    follower.notes.filter((note) => note.kind === "list" && note.reason === "gone").length,
  ).toBeGreaterThan(0);
  // What the list found unchanged is the very same as before.
  expect(follower.model?.services.get("shop/gap")).toBe(before?.services.get("shop/gap"));
  expect(follower.snapshots.map(() => follower.addresses("gap"))).not.toContain("10.0.3.2");
});

test("a frozen server is noticed, and found again", async () => {
  await server.stop();
  await server.start();
  const follower = new Follower({ pulse: { quietMs: 300, timeoutMs: 700, retryMs: 100 } });
  await follower.until(() => follower.addresses("gap") === "10.0.3.3");
  server.freeze();
  await eventually(
    async () => follower.watch.problem(),
    (problem) => problem?.includes("disconnected") === true,
    10,
  );
  expect(follower.watch.status().every(({ trouble }) => trouble !== undefined)).toBe(true);
  server.thaw();
  await server.apply(slice("gap", ["10.0.3.4"], "shop"));
  await follower.until(() => follower.addresses("gap") === "10.0.3.4");
  await eventually(
    async () => follower.watch.problem(),
    (problem) => problem === undefined,
  );
});

test("a restart with other data in between: relisted, and the last model is the newest", async () => {
  const follower = new Follower();
  await follower.until(() => follower.addresses("gap") === "10.0.3.4");
  await server.stop("SIGKILL");
  await server.start();
  for (let last = 10; last < 20; last++) await server.apply(slice("gap", [`10.0.3.${last}`], "shop"));
  await follower.until(() => follower.addresses("gap") === "10.0.3.19");
  const seen = follower.snapshots.map(({ model }) =>
    Number(model.endpointSlices.get("shop/gap")?.[0]?.endpoints[0]?.addresses[0]?.split(".").at(-1)),
  );
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
});
