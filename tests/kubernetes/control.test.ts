/** `fairlead control` on a real API server, with the real Worker at the other end. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { ApiServer, type Manifest } from "./support/api-server.ts";
import { ControlProcess } from "./support/control-process.ts";
import { eventually, LocalEdge } from "./support/local-edge.ts";
import { app, ingress, namespace, service, slice } from "./support/objects.ts";

let server: ApiServer;
let edge: LocalEdge;
let control: ControlProcess;

beforeAll(async () => {
  [server, edge] = await Promise.all([ApiServer.start(), LocalEdge.start()]);
  await server.apply(namespace("ingress-nginx"));
  control = await ControlProcess.start(
    server,
    edge,
    "--edge-address",
    "edge.example.net",
    "--ingress-class",
    "nginx",
  );
});

afterAll(async () => {
  await control?.end();
  await Promise.all([server?.remove(), edge?.stop()]);
});

/** `.status.loadBalancer.ingress` */
async function statusOf(manifest: Manifest): Promise<unknown> {
  const { status } = (await server.get(manifest)) as { status: { loadBalancer: { ingress?: unknown } } };
  return status.loadBalancer.ingress;
}

interface EventObject {
  readonly reason: string;
  readonly type: string;
  readonly message: string;
  readonly count: number;
}

async function eventsOf(name: string): Promise<readonly EventObject[]> {
  const list = (await server.api.request({
    path: "/api/v1/namespaces/default/events",
    query: { fieldSelector: `involvedObject.name=${name}` },
  })) as { readonly items: readonly EventObject[] };
  return list.items;
}

const ours = { ingressClassName: "nginx" };

test("an Ingress that is applied answers at the edge, and its status tells where", async () => {
  const web = ingress("web", "web.example.com", ours);
  await server.apply(service("web"), slice("web", ["10.0.0.1", "10.0.0.2"]), web);
  await eventually(
    () => edge.pods("web.example.com"),
    (pods) => pods.join() === "10.0.0.1,10.0.0.2",
  );
  await eventually(
    () => statusOf(web),
    (status) => JSON.stringify(status) === '[{"hostname":"edge.example.net"}]',
  );
});

test("kubectl: what is applied answers, what it says shows, what is deleted is gone", async () => {
  const host = "kubectl.example.com";
  const manifests = [
    service("by-hand"),
    slice("by-hand", ["10.0.4.1"]),
    ingress("by-hand", host, {
      ...ours,
      tlsSecret: "by-hand-tls",
      annotations: { "nginx.ingress.kubernetes.io/ssl-redirect": "false" },
    }),
  ];
  const text = manifests.map((one) => JSON.stringify(one)).join("\n---\n");
  expect(server.kubectl(["apply", "--server-side", "-f", "-"], text)).toContain(
    "ingress.networking.k8s.io/by-hand serverside-applied",
  );
  await eventually(
    () => edge.get(host),
    ({ pod }) => pod === "10.0.4.1",
  );
  await eventually(
    async () => server.kubectl(["get", "ingress", "by-hand"]),
    (table) => /^by-hand +nginx +kubectl\.example\.com +edge\.example\.net +80, 443 /m.test(table),
  );
  await eventually(
    async () => server.kubectl(["describe", "ingress", "by-hand"]),
    (page) => /Normal +CertificateNotUsed .*the Secret default\/by-hand-tls is not used/.test(page),
  );
  // As `kubectl apply` without --server-side does it: the whole object in an annotation, which means nothing to us.
  const before = edge.kv.writes.length;
  server.kubectl(["annotate", "ingress", "by-hand", "note=nothing that counts"]);
  server.kubectl(["delete", "endpointslice", "by-hand-1"]);
  await eventually(
    () => edge.get(host),
    ({ status }) => status === 503,
  );
  expect(edge.kv.writes.slice(before).flat()).toHaveLength(2);
  server.kubectl(["delete", "ingress/by-hand", "service/by-hand"]);
  await eventually(
    () => edge.get(host),
    ({ status }) => status === 404,
  );
});

test("an endpoint that leaves is gone from the edge, for one shard and the pointer", async () => {
  const before = edge.kv.writes.length;
  await server.apply(slice("web", ["10.0.0.2"]));
  await eventually(
    () => edge.pods("web.example.com"),
    (pods) => pods.join() === "10.0.0.2",
  );
  const keys = edge.kv.writes.slice(before).flat();
  expect(keys).toHaveLength(2);
  expect(keys[0]).toMatch(/^s\//);
});

test("what means the same writes nothing: a label, a touched status, another class", async () => {
  const before = edge.kv.writes.length;
  await server.apply(
    {
      ...slice("web", ["10.0.0.2"]),
      metadata: { ...slice("web", []).metadata, annotations: { touched: "1" } },
    } as Manifest,
    ingress("others", "others.example.com", { ingressClassName: "traefik", service: "web" }),
    ...app("marker", "marker.example.com", ["10.0.0.9"]).map((one) =>
      one.kind === "Ingress" ? ingress("marker", "marker.example.com", ours) : one,
    ),
  );
  await eventually(
    () => edge.get("marker.example.com"),
    ({ pod }) => pod === "10.0.0.9",
  );
  expect((await edge.get("others.example.com")).pod).toBeUndefined();
  // The marker may come in up to three steps: its Service, its slice, its Ingress. All before it wrote nothing.
  expect(edge.kv.writes.slice(before).flat().length).toBeLessThanOrEqual(6);
  expect(await statusOf(ingress("others", "others.example.com"))).toBeUndefined();
});

test("a Secret that an Ingress names is fetched and followed; one that nobody names never is", async () => {
  const password = (hash: string): Manifest =>
    ({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "users", namespace: "default" },
      stringData: { auth: `ann:${hash}\n` },
    }) as Manifest;
  // htpasswd -s: {SHA} of "one" and of "two".
  await server.apply(
    password("{SHA}/gXfpQVS3Kx/h3DTVGxDL6cTEe0="),
    { ...password("x"), metadata: { name: "nobodys", namespace: "default" } },
    service("vault"),
    slice("vault", ["10.0.0.3"]),
    ingress("vault", "vault.example.com", {
      ...ours,
      annotations: {
        "nginx.ingress.kubernetes.io/auth-type": "basic",
        "nginx.ingress.kubernetes.io/auth-secret": "users",
      },
    }),
  );
  const ask = (word: string) => () =>
    edge.get("vault.example.com", "/", { authorization: `Basic ${btoa(`ann:${word}`)}` });
  const { createHash } = await import("node:crypto");
  for (const word of ["one", "two"]) {
    await server.apply(password(`{SHA}${createHash("sha1").update(word).digest("base64")}`));
    await eventually(ask(word), ({ status }) => status === 200);
    expect((await ask("wrong")()).status).toBe(401);
  }
  expect((await ask("one")()).status).toBe(401);
  expect(await control.metric("fairlead_kubernetes_objects", 'kind="Secret"')).toBe(1);
});

test("an Ingress that goes is gone from the edge; one that is given away loses our status", async () => {
  const leaving = ingress("leaving", "leaving.example.com", { ...ours, service: "web" });
  await server.apply(leaving);
  await eventually(
    () => statusOf(leaving),
    (status) => status !== undefined,
  );
  await server.apply(
    ingress("leaving", "leaving.example.com", { ingressClassName: "traefik", service: "web" }),
  );
  await eventually(
    () => statusOf(leaving),
    (status) => status === undefined,
  );
  await server.delete(ingress("marker", "marker.example.com"));
  await eventually(
    () => edge.get("marker.example.com"),
    ({ pod }) => pod === undefined,
  );
});

test("what is wrong is told in an Event, once; a TLS Secret that has no use, with what to do", async () => {
  const odd = (value: string): Manifest =>
    ingress("odd", "odd.example.com", {
      ...ours,
      service: "nowhere",
      tlsSecret: "odd-tls",
      annotations: { "nginx.ingress.kubernetes.io/proxy-body-size": value },
    });
  await server.apply(odd("plenty"));
  const events = await eventually(
    () => eventsOf("odd"),
    (found) =>
      found.some(({ message }) => message.includes("plenty")) &&
      found.some(({ reason }) => reason === "CertificateNotUsed"),
  );
  const tls = events.find(({ reason }) => reason === "CertificateNotUsed");
  expect(tls).toMatchObject({ type: "Normal", count: 1 });
  expect(tls?.message).toContain("default/odd-tls");
  expect(tls?.message).toContain("odd.example.com");
  // Another change, and another one of something else: nothing is told twice.
  await server.apply(slice("web", ["10.0.0.1"]));
  await server.apply(odd("lots"));
  const later = await eventually(
    () => eventsOf("odd"),
    (found) => found.some(({ message }) => message.includes("lots")),
  );
  const texts = later.map(({ message }) => message);
  expect(new Set(texts).size).toBe(texts.length);
  expect(later.map(({ count }) => count)).toEqual(later.map(() => 1));
});

test("a KV that fails half a bulk write, is down or slow: the edge stays whole, and ends right", async () => {
  const hosts = Array.from({ length: 6 }, (_, index) => `many-${index}.example.com`);
  const rules = hosts.map((host) => ({
    host,
    http: {
      paths: [{ path: "/", pathType: "Prefix", backend: { service: { name: "web", port: { number: 80 } } } }],
    },
  }));
  const all = async (): Promise<readonly (string | undefined)[]> =>
    await Promise.all(hosts.map(async (host) => (await edge.get(host)).pod));
  const shared = (addresses: readonly string[]): Promise<void> => server.apply(slice("web", addresses));
  await server.apply({
    ...ingress("many", "many.example.com", ours),
    spec: { ingressClassName: "nginx", rules },
  } as Manifest);
  await shared(["10.0.1.0"]);
  await eventually(all, (pods) => pods.every((pod) => pod === "10.0.1.0"));

  let step = 0;
  for (const hardship of [{ kind: "half" }, { kind: "down" }, { kind: "slow", ms: 700 }] as const) {
    step++;
    edge.kv.hardship = hardship;
    const before = edge.kv.writes.length;
    await shared([`10.0.1.${step}`]);
    await eventually(
      async () => edge.kv.writes.length,
      (length) => length > before,
    );
    // The edge answers from the state before or after, for every host, and never with an error.
    for (const pod of await all()) expect([`10.0.1.${step - 1}`, `10.0.1.${step}`]).toContain(pod);
    if (hardship.kind !== "slow") edge.kv.hardship = { kind: "none" };
    await eventually(all, (pods) => pods.every((pod) => pod === `10.0.1.${step}`));
  }
  edge.kv.hardship = { kind: "none" };
});

test("a server that restarts: the loss shows, the edge goes on, and what changed meanwhile arrives", async () => {
  await server.stop("SIGKILL");
  await eventually(
    () => control.json("/v1/clusters/default/state"),
    (state) => JSON.stringify(state).includes("is disconnected since"),
  );
  expect(await control.metric("fairlead_kubernetes_watch_connected", 'kind="Ingress"')).toBe(0);
  expect((await edge.get("web.example.com")).status).toBe(200);
  await server.start();
  await server.apply(slice("web", ["10.0.2.1"]));
  await eventually(
    () => edge.get("web.example.com"),
    ({ pod }) => pod === "10.0.2.1",
  );
  await eventually(
    () => control.metric("fairlead_kubernetes_watch_connected", 'kind="Ingress"'),
    (value) => value === 1,
  );
});

test("a new control service on the same KV publishes nothing before its lists are complete, and nothing new then", async () => {
  await control.end();
  const before = edge.kv.writes.length;
  control = await ControlProcess.start(
    server,
    edge,
    "--edge-address",
    "edge.example.net",
    "--ingress-class",
    "nginx",
  );
  await eventually(
    () => control.metric("fairlead_control_ready"),
    (value) => value === 1,
  );
  await server.apply(slice("web", ["10.0.2.2"]));
  await eventually(
    () => edge.get("web.example.com"),
    ({ pod }) => pod === "10.0.2.2",
  );
  const keys = edge.kv.writes.slice(before).flat();
  expect(keys.filter((key) => key.startsWith("s/")).length).toBe(1);
});
