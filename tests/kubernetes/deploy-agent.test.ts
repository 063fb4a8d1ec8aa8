/** `deploy/` of the node agent against a real API server: every object is taken, and the rights are enough and no more. */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createEventTeller } from "../../agent/events.ts";
import { followKubernetes } from "../../agent/sources/kubernetes.ts";
import type { ClusterState } from "../../agent/sources/source.ts";
import { connectKubernetes, type KubernetesApi } from "../../cluster/watch/api.ts";
import type { ApiError } from "../../cluster/watch/api-error.ts";
import { ApiServer } from "./support/api-server.ts";
import { kustomizeBase, renderChart } from "./support/deploy.ts";
import { namespace } from "./support/objects.ts";

const DEPLOY = fileURLToPath(new URL("../../deploy/", import.meta.url));
const KUSTOMIZATION = join(DEPLOY, "kubernetes", "agent", "kustomization.yaml");
const CHART_RELEASE = {
  chart: join(DEPLOY, "helm", "fairlead-agent"),
  release: "fairlead-agent",
  namespace: "fairlead-agent",
};

const EXPOSED = {
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name: "tcp", namespace: "ingress-nginx" },
  data: { "9000": "default/web:80" },
} as const;

let server: ApiServer;

beforeAll(async () => {
  server = await ApiServer.start();
  await server.apply(namespace("fairlead-agent"), namespace("ingress-nginx"), EXPOSED);
});
afterAll(async () => {
  await server?.remove();
});

const API_SERVER = { apiServer: { host: "api.example.com" } };
const EVERYTHING = {
  ...API_SERVER,
  backend: "iptables",
  clusterCidrs: ["10.244.0.0/16", "fd00:10::/48"],
  serviceCidrs: ["10.96.0.0/12"],
  masqueradeAll: true,
  nodePortAddresses: ["primary", "192.168.0.0/24"],
  tcpServices: "ingress-nginx/tcp",
  udpServices: "ingress-nginx/udp",
  outboundPolicy: {
    nonMasqueradeCIDRs: ["10.0.0.0/8"],
    egress: [{ namespace: "a", sourceIPs: ["192.0.2.7"] }],
  },
  hostPorts: true,
  imagePullSecrets: [{ name: "registry" }],
  env: { FAIRLEAD_MASQUERADE_BIT: "15" },
};

describe.each([
  ["the Kustomize base", () => kustomizeBase(KUSTOMIZATION)],
  ["the chart", () => renderChart(CHART_RELEASE, API_SERVER)],
  ["the chart with everything set", () => renderChart(CHART_RELEASE, EVERYTHING)],
] as const)("%s", (_, manifests) => {
  test("is taken by the API server, every field of it", async () => {
    const all = manifests();
    expect(all.map(({ kind }) => kind)).toEqual(
      expect.arrayContaining(["DaemonSet", "ClusterRole", "ClusterRoleBinding", "ServiceAccount"]),
    );
    for (const manifest of all) await server.dryRun(manifest);
  });

  test("is rolled out further when a node's rules are in its kernel, and lives before", () => {
    const set = manifests().find(({ kind }) => kind === "DaemonSet") as unknown as {
      readonly spec: { readonly template: { readonly spec: { readonly containers: readonly object[] } } };
    };
    const probe = (path: string): object => ({
      httpGet: { host: "127.0.0.1", path, port: 10256 },
    });
    expect(set.spec.template.spec.containers).toEqual([
      expect.objectContaining({
        livenessProbe: expect.objectContaining(probe("/livez")),
        readinessProbe: expect.objectContaining(probe("/readyz")),
      }),
    ]);
  });

  test("runs with two capabilities and a read-only root, never privileged", () => {
    const set = manifests().find(({ kind }) => kind === "DaemonSet") as unknown as {
      readonly spec: { readonly template: { readonly spec: Readonly<Record<string, readonly unknown[]>> } };
    };
    const { containers, initContainers } = set.spec.template.spec;
    expect(containers).toEqual([
      expect.objectContaining({
        args: ["agent"],
        securityContext: {
          privileged: false,
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"], add: ["NET_ADMIN", "NET_RAW"] },
        },
      }),
    ]);
    expect(initContainers).toEqual([
      expect.objectContaining({
        args: ["agent", "--init-only", "--proc-sys=/node/proc/sys"],
        securityContext: expect.objectContaining({
          privileged: false,
          capabilities: { drop: ["ALL"], add: ["NET_ADMIN", "NET_RAW"] },
        }),
      }),
    ]);
  });
});

test("a chart without the API server's address says what is missing", () => {
  expect(() => renderChart(CHART_RELEASE, {})).toThrow(/apiServer\.host is needed/);
});

test.each([
  ["the Kustomize base", () => kustomizeBase(KUSTOMIZATION), false],
  ["the chart with everything set", () => renderChart(CHART_RELEASE, EVERYTHING), true],
] as const)(
  "the rights of %s are enough to follow the cluster, and no more",
  async (_, manifests, everything) => {
    const all = manifests();
    const rights = all.filter(({ kind }) => kind === "ServiceAccount" || /Role(Binding)?$/.test(kind));
    await server.apply(...rights);
    const api: KubernetesApi = connectKubernetes({
      kubeconfig: await server.kubeconfigOf("fairlead-agent", "fairlead-agent"),
    });
    let source: ReturnType<typeof followKubernetes> | undefined;
    try {
      const state = await new Promise<ClusterState>((resolve) => {
        source = followKubernetes({
          api,
          node: "n1",
          configMaps: everything ? ["ingress-nginx/tcp"] : [],
          pods: everything,
          onState: resolve,
        });
      });
      expect(source?.status().every(({ isConnected }) => isConnected)).toBe(true);
      // The API server's own Service.
      expect([...state.model.services.keys()]).toEqual(["default/kubernetes"]);
      expect([...state.model.configMaps.keys()]).toEqual(everything ? ["ingress-nginx/tcp"] : []);

      const told = new Promise<void>((resolve, reject) => {
        const request: KubernetesApi["request"] = (asked) => {
          const answer = api.request(asked);
          answer.then(() => resolve(), reject);
          return answer;
        };
        createEventTeller({ request }, "n1").tell({
          about: { kind: "Node", name: "n1" },
          reason: "RulesNotApplied",
          message: "a test",
        });
      });
      await told;

      const denied: readonly string[] = [
        "/api/v1/secrets",
        "/api/v1/namespaces/ingress-nginx/configmaps",
        "/apis/apps/v1/deployments",
        ...(everything ? [] : ["/api/v1/pods"]),
      ];
      for (const path of denied)
        await expect(api.request({ path })).rejects.toSatisfy((error) => (error as ApiError).status === 403);
    } finally {
      source?.close();
      api.close();
      for (const manifest of rights) if (/Role(Binding)?$/.test(manifest.kind)) await server.delete(manifest);
    }
  },
);
