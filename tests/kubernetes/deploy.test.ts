/** `deploy/` against a real API server: every object is taken as it stands, and the rights are enough and no more. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse as parseToml } from "smol-toml";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectKubernetes, type KubernetesApi } from "../../cluster/watch/api.ts";
import type { ApiError } from "../../cluster/watch/api-error.ts";
import { createLeaseElection, LEASE_TIMES } from "../../control/kubernetes/lease.ts";
import { createKubernetesSource } from "../../control/kubernetes/source.ts";
import { createLog } from "../../control/log.ts";
import { createMetrics } from "../../control/metrics.ts";
import { ApiServer, type Manifest } from "./support/api-server.ts";
import { kustomizeBase, renderChart } from "./support/deploy.ts";
import { ingress, namespace } from "./support/objects.ts";

const DEPLOY = fileURLToPath(new URL("../../deploy/", import.meta.url));
const KUSTOMIZATION = join(DEPLOY, "kubernetes", "control", "kustomization.yaml");
const GATEWAY = join(DEPLOY, "gateway", "kustomization.yaml");
const CLOUDFLARED = join(DEPLOY, "cloudflared", "kustomization.yaml");
const CHART_RELEASE = {
  chart: join(DEPLOY, "helm", "fairlead-control"),
  release: "fairlead-control",
  namespace: "fairlead",
};

let server: ApiServer;

beforeAll(async () => {
  server = await ApiServer.start();
  // A dry run stores nothing, not even a namespace for what follows.
  await server.apply(namespace("fairlead"), namespace("ingress-nginx"), namespace("shop"), namespace("blog"));
});
afterAll(async () => {
  await server?.remove();
});

const CLOUDFLARE = { cloudflare: { account: "a", kvNamespace: "n" } };

describe.each([
  ["the Kustomize base", () => kustomizeBase(KUSTOMIZATION)],
  ["the chart", () => renderChart(CHART_RELEASE, CLOUDFLARE)],
  [
    "the chart with everything set",
    () =>
      renderChart(CHART_RELEASE, {
        ...CLOUDFLARE,
        namespaces: ["shop", "blog"],
        edgeAddresses: ["edge.example.net"],
        controllerConfigMap: "ingress-nginx/settings",
        events: false,
        imagePullSecrets: [{ name: "registry" }],
        nodeSelector: { "kubernetes.io/os": "linux" },
        tolerations: [{ operator: "Exists" }],
        env: { FAIRLEAD_WRITE_BUDGET: "1000" },
      }),
  ],
] as const)("%s", (_, manifests) => {
  test("is taken by the API server, every field of it", async () => {
    const all = manifests();
    expect(all.map(({ kind }) => kind)).toEqual(
      expect.arrayContaining([
        "Deployment",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "ClusterRole",
        "Service",
      ]),
    );
    for (const manifest of all) await server.dryRun(manifest);
  });

  test("runs two replicas without any privilege", () => {
    const deployment = manifests().find(({ kind }) => kind === "Deployment") as unknown as {
      readonly spec: {
        readonly replicas: number;
        readonly template: {
          readonly spec: { readonly securityContext: unknown; readonly containers: readonly unknown[] };
        };
      };
    };
    expect(deployment.spec.replicas).toBe(2);
    expect(deployment.spec.template.spec.securityContext).toMatchObject({
      runAsNonRoot: true,
      seccompProfile: { type: "RuntimeDefault" },
    });
    expect(deployment.spec.template.spec.containers).toEqual([
      expect.objectContaining({
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        },
      }),
    ]);
  });
});

test.each(["kubernetes/control", "gateway"])("kubectl builds and applies the Kustomize base %s", (base) => {
  const output = server.kubectl(["apply", "-k", join(DEPLOY, base), "--server-side", "--dry-run=server"]);
  expect(output).toMatch(/^deployment\.apps\/\S+ serverside-applied \(server dry run\)$/m);
});

describe.each([
  [
    "the gateway",
    GATEWAY,
    [
      ...["ClusterRole", "ClusterRoleBinding", "ConfigMap", "Deployment", "NetworkPolicy"],
      ...["PodDisruptionBudget", "Service", "ServiceAccount"],
    ],
  ],
  ["cloudflared", CLOUDFLARED, ["Deployment", "NetworkPolicy", "PodDisruptionBudget"]],
] as const)("%s", (_, kustomization, kinds) => {
  test("is taken by the API server, every field of it", async () => {
    const all = kustomizeBase(kustomization);
    expect(all.map(({ kind }) => kind).sort()).toEqual(kinds);
    for (const manifest of all) await server.dryRun(manifest);
  });
});

test("cloudflared may call the gateway, at the port that the Worker is told", () => {
  const manifests = [
    ...kustomizeBase(GATEWAY),
    ...kustomizeBase(CLOUDFLARED),
  ] as unknown as readonly PodRules[];
  const find = (kind: string, name: string): PodRules["spec"] => {
    const found = manifests.find((manifest) => manifest.kind === kind && manifest.metadata.name === name);
    if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
    return found.spec;
  };
  const labels = find("Deployment", "cloudflared").template?.metadata.labels ?? {};
  const wanted =
    find("NetworkPolicy", "fairlead-gateway").ingress?.[0]?.from[0]?.podSelector?.matchLabels ?? {};
  expect(Object.keys(wanted)).toHaveLength(1);
  expect(labels).toMatchObject(wanted);
  const { env } = parseToml(readFileSync(join(DEPLOY, "..", "wrangler.toml"), "utf8")) as unknown as {
    readonly env: { readonly production: { readonly vars: { readonly GATEWAY_URL: string } } };
  };
  const { hostname, port } = new URL(env.production.vars.GATEWAY_URL);
  expect(hostname).toMatch(/^fairlead-gateway\.fairlead\.svc/);
  expect(find("Service", "fairlead-gateway").ports?.map((one) => one.port)).toContain(Number(port));
});

/** As much of the manifests as the test above looks at. */
interface PodRules {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly template?: { readonly metadata: { readonly labels: Readonly<Record<string, string>> } };
    readonly ingress?: readonly {
      readonly from: readonly {
        readonly podSelector?: { readonly matchLabels: Readonly<Record<string, string>> };
      }[];
    }[];
    readonly ports?: readonly { readonly port: number }[];
  };
}

test("a chart without an account says what is missing", () => {
  expect(() => renderChart(CHART_RELEASE, {})).toThrow(/cloudflare\.account is needed/);
});

test("a field that does not exist would be found", async () => {
  const [deployment] = kustomizeBase(KUSTOMIZATION).filter(
    ({ kind }) => kind === "Deployment",
  ) as unknown as [Manifest & { readonly spec: object }];
  const wrong = { ...deployment, spec: { ...deployment.spec, replicaCount: 2 } };
  await expect(server.dryRun(wrong)).rejects.toThrow(/replicaCount/);
});

/** Applies the rights of a deployment alone, and connects with its ServiceAccount. */
async function connectWithRights(manifests: readonly Manifest[]): Promise<KubernetesApi> {
  const rights = manifests.filter(({ kind }) => kind === "ServiceAccount" || /Role(Binding)?$/.test(kind));
  await server.apply(...rights);
  return connectKubernetes({ kubeconfig: await server.kubeconfigOf("fairlead", "fairlead-control") });
}

async function removeRights(manifests: readonly Manifest[]): Promise<void> {
  for (const manifest of manifests) if (/Role(Binding)?$/.test(manifest.kind)) await server.delete(manifest);
}

test.each([
  ["the Kustomize base", () => kustomizeBase(KUSTOMIZATION), undefined],
  [
    "the chart for two namespaces",
    () => renderChart(CHART_RELEASE, { ...CLOUDFLARE, namespaces: ["shop", "blog"] }),
    ["shop", "blog"],
  ],
] as const)(
  "the rights of %s are enough to follow the cluster and to lead",
  async (_, manifests, namespaces) => {
    const all = manifests();
    const api = await connectWithRights(all);
    const log = createLog("json", () => {});
    await server.apply(
      ingress("web", "web.example.com", {
        namespace: "shop",
        annotations: {
          "nginx.ingress.kubernetes.io/auth-type": "basic",
          "nginx.ingress.kubernetes.io/auth-secret": "users",
        },
      }),
    );
    const source = createKubernetesSource({
      cluster: "default",
      api,
      compile: {},
      namespaces,
      metrics: createMetrics(),
      log,
    });
    const lease = { namespace: "fairlead", name: "fairlead-control", identity: "test", ...LEASE_TIMES };
    const election = createLeaseElection(api, lease, log);
    try {
      for await (const { model } of source.states) {
        expect([...model.ingresses.keys()]).toEqual(["shop/web"]);
        break;
      }
      expect(source.problem()).toBeUndefined();
      for await (const term of election.terms) {
        expect(term.kind).toBe("lead");
        break;
      }
    } finally {
      source.close();
      await election.stop();
      api.close();
      await removeRights(all);
    }
  },
);

test("the rights of the Kustomize base: a status and Events may be written, and nothing else", async () => {
  const all = kustomizeBase(KUSTOMIZATION);
  const api = await connectWithRights(all);
  const path = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web";
  const patch = (target: string, body: unknown): Promise<unknown> =>
    api.request({ method: "PATCH", path: target, contentType: "application/merge-patch+json", body });
  try {
    await patch(`${path}/status`, {
      status: { loadBalancer: { ingress: [{ hostname: "edge.example.net" }] } },
    });
    const denied: readonly (() => Promise<unknown>)[] = [
      () => patch(path, { metadata: { annotations: { a: "b" } } }),
      () => api.request({ path: "/api/v1/namespaces/shop/secrets/users" }),
      () => api.request({ path: "/api/v1/pods" }),
      () => api.request({ path: "/api/v1/nodes" }),
      () => api.request({ method: "DELETE", path }),
      () => api.request({ path: "/apis/coordination.k8s.io/v1/namespaces/fairlead/leases/other" }),
      () =>
        api.request({
          method: "POST",
          path: "/api/v1/namespaces/shop/secrets",
          body: { metadata: { name: "a" } },
        }),
    ];
    for (const attempt of denied)
      await expect(attempt()).rejects.toSatisfy((error) => (error as ApiError).status === 403);
  } finally {
    api.close();
    await removeRights(all);
  }
});
