/**
 * What a real API server does too seldom for a test to wait for it (`tests/kubernetes/watch.test.ts` has the rest):
 * bookmarks, errors in the middle of a watch, and "try again later".
 */

import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { connectKubernetes, type KubernetesApi } from "./api.ts";
import { type Reflector, type ReflectorNote, startReflector } from "./reflector.ts";

interface Asked {
  readonly query: URLSearchParams;
  readonly response: ServerResponse;
}

const server = createServer((request, response) => {
  const query = new URL(request.url ?? "/", "http://server.invalid").searchParams;
  server.emit("asked", { query, response } satisfies Asked);
});
let folder: string;
let api: KubernetesApi;
let reflector: Reflector;
let put: string[];
let notes: ReflectorNote[];

beforeEach(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  folder = mkdtempSync(join(tmpdir(), "fairlead-reflector-"));
  const path = join(folder, "kubeconfig");
  const { port } = server.address() as AddressInfo;
  writeFileSync(
    path,
    JSON.stringify({
      "current-context": "test",
      contexts: [{ name: "test", context: { cluster: "test", user: "test" } }],
      clusters: [
        { name: "test", cluster: { server: `http://127.0.0.1:${port}`, "insecure-skip-tls-verify": true } },
      ],
      users: [{ name: "test", user: {} }],
    }),
  );
  api = connectKubernetes({ kubeconfig: path });
  put = [];
  notes = [];
});
afterEach(async () => {
  reflector.stop();
  api.close();
  rmSync(folder, { recursive: true });
  server.closeAllConnections();
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

/** Follows Services; what the server is asked first. */
function start(): Promise<Asked> {
  const first = asked();
  const sink = {
    put: (_: string, name: string, raw: { readonly metadata: { readonly resourceVersion: string } }) =>
      put.push(`${name} ${raw.metadata.resourceVersion}`),
    delete: (_: string, name: string) => put.push(`${name} gone`),
    listed: () => {},
    noted: (note: ReflectorNote) => notes.push(note),
  };
  reflector = startReflector(api, { kind: "Service" }, sink, { firstMs: 1, longestMs: 1 });
  return first;
}

async function asked(): Promise<Asked> {
  const [one] = (await once(server, "asked")) as [Asked];
  return one;
}

function service(name: string, resourceVersion: string) {
  return { metadata: { name, namespace: "shop", uid: name, resourceVersion } };
}

function list(resourceVersion: string, ...items: readonly unknown[]): string {
  return JSON.stringify({ metadata: { resourceVersion }, items });
}

function event(type: string, object: unknown): string {
  return `${JSON.stringify({ type, object })}\n`;
}

test("a watch that ends goes on from its last bookmark, without a list", async () => {
  const first = await start();
  let next = asked();
  first.response.end(list("10", service("web", "9")));
  const watch = await next;
  expect(watch.query.get("resourceVersion")).toBe("10");
  expect(watch.query.get("allowWatchBookmarks")).toBe("true");
  next = asked();
  watch.response.write(event("MODIFIED", service("web", "11")));
  watch.response.end(event("BOOKMARK", { metadata: { resourceVersion: "5000" } }));
  const again = await next;
  expect([again.query.get("watch"), again.query.get("resourceVersion")]).toEqual(["true", "5000"]);
  expect(put).toEqual(["shop/web 9", "shop/web 11"]);
});

test("410 in the middle of a watch: a list closes the gap, and puts only what differs", async () => {
  const first = await start();
  let next = asked();
  first.response.end(list("10", service("web", "9"), service("api", "8"), service("going", "7")));
  const watch = await next;
  next = asked();
  watch.response.end(event("ERROR", { code: 410, reason: "Expired", message: "too old resource version" }));
  const relist = await next;
  expect(relist.query.get("watch")).toBeNull();
  next = asked();
  relist.response.end(list("20", service("web", "15"), service("api", "8")));
  expect((await next).query.get("resourceVersion")).toBe("20");
  expect(put.slice(3)).toEqual(["shop/web 15", "shop/going gone"]);
  // A gap that is closed is no loss.
  expect(notes.map(({ kind }) => kind)).not.toContain("disconnected");
});

test("pages whose snapshot was compacted away are asked for as one whole list", async () => {
  const first = await start();
  expect(first.query.get("limit")).toBe("500");
  let next = asked();
  first.response.end(
    JSON.stringify({ metadata: { resourceVersion: "10", continue: "more" }, items: [service("web", "9")] }),
  );
  const page = await next;
  expect(page.query.get("continue")).toBe("more");
  next = asked();
  page.response.writeHead(410, { "content-type": "application/json" });
  page.response.end(JSON.stringify({ message: "expired", reason: "Expired", code: 410 }));
  const whole = await next;
  expect([whole.query.get("limit"), whole.query.get("continue")]).toEqual([null, null]);
  next = asked();
  whole.response.end(list("12", service("web", "9"), service("api", "11")));
  await next;
  expect(put).toContain("shop/api 11");
  expect(reflector.size()).toBe(2);
});

test("a server that has too much to do says when to ask again; a loss is told once", async () => {
  const first = await start();
  let next = asked();
  first.response.writeHead(500).end();
  const second = await next;
  next = asked();
  second.response.writeHead(503).end();
  const third = await next;
  next = asked();
  third.response.end(list("10"));
  await next;
  expect(notes.filter(({ kind }) => kind === "disconnected")).toHaveLength(1);
  expect(notes.filter(({ kind }) => kind === "connected")).toHaveLength(1);
  expect(reflector.trouble()).toBeUndefined();
  next = asked();
  const refused = api.request({ path: "/api/v1/services" });
  (await next).response.writeHead(429, { "retry-after": "7" }).end();
  await expect(refused).rejects.toMatchObject({ status: 429, retryAfterMs: 7_000 });
});
