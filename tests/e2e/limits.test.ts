/** Limits over real sockets: how many pass from idle, how many are in flight, who is counted with whom. */

import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;

const limited = (name: string, annotations: Record<string, string>, service = "web") =>
  ingress(service, { host: `${name}.example.com`, annotations });

beforeAll(async () => {
  edge = await Edge.start({
    backends: {
      web: 1,
      // Answers when it is told to, so that requests are in flight together for as long as a test wants.
      slow: (request, response) => {
        if (request.url === "/stream") {
          // workerd notices that a client has left when there is something to send it.
          const ticking = setInterval(() => response.write("tick\n"), 20);
          response.on("close", () => clearInterval(ticking));
          request.socket.on("close", () => {
            response.end();
            left();
          });
          return;
        }
        waiting.push(() => response.end("done"));
        arrived();
      },
    },
    manifests: [
      limited("one", { "limit-rps": "1" }),
      limited("five", { "limit-rps": "5" }),
      limited("ten", { "limit-rps": "10" }),
      limited("minute", { "limit-rpm": "1" }),
      limited("both", { "limit-rps": "100", "limit-rpm": "1" }),
      limited("multiplier", { "limit-rps": "1", "limit-burst-multiplier": "1" }),
      limited("exempt", { "limit-rps": "1", "limit-whitelist": "10.0.0.0/8,2001:db8::/32" }),
      limited("exempt-too", {
        "limit-rps": "1",
        "limit-whitelist": "0.0.0.0/0",
        "limit-allowlist": "10.0.0.0/8",
      }),
      limited("allowed", { "limit-rps": "1", "limit-allowlist": "192.0.2.7" }),
      limited("six", { "limit-rps": "1" }),
      limited("redirected", { "limit-rps": "1", "permanent-redirect": "https://example.com" }),
      limited("preflight", { "limit-rps": "1", "enable-cors": "true" }),
      limited("refused", { "limit-rps": "1", "whitelist-source-range": "192.0.2.0/24" }),
      limited("flight", { "limit-connections": "8" }, "slow"),
      limited("stream", { "limit-connections": "1" }, "slow"),
      limited("socket", { "limit-connections": "1" }),
      limited("unreadable", { "limit-rps": "many" }),
      limited("window", {
        "global-rate-limit": "5",
        "global-rate-limit-window": "10m",
        "global-rate-limit-key": "$arg_key",
        "global-rate-limit-ignored-cidrs": "10.0.0.0/8",
      }),
      JSON.stringify({
        apiVersion: "networking.k8s.io/v1",
        kind: "Ingress",
        metadata: { name: "two-hosts", annotations: { "nginx.ingress.kubernetes.io/limit-rps": "1" } },
        spec: {
          rules: ["h1.example.com", "h2.example.com"].map((host) => ({
            host,
            http: {
              paths: [
                {
                  path: "/",
                  pathType: "Prefix",
                  backend: { service: { name: "web", port: { number: 80 } } },
                },
              ],
            },
          })),
        },
      }),
    ].join("\n---\n"),
  });
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => offered.has("chat") && "chat",
  });
  edge.backend("web").onUpgrade = (request, socket, head) =>
    sockets.handleUpgrade(request, socket, head, (client) => {
      client.on("message", (data, isBinary) => {
        if (data.toString() === "leave") client.close(1011, "left");
        else client.send(data, { binary: isBinary });
      });
    });
});

afterAll(async () => edge.stop());

let waiting: (() => void)[] = [];
let arrived: () => void = () => {};
let left: () => void = () => {};

/** Each test has clients of its own, so none meets another's count. */
let lastClient = 0;
const newClient = (): string => `198.51.${100 + (++lastClient >> 8)}.${lastClient & 255}`;

async function statuses(host: string, count: number, options: Partial<Parameters<Edge["request"]>[0]> = {}) {
  const clientAddress = options.clientAddress ?? newClient();
  const replies = await Promise.all(
    Array.from({ length: count }, () =>
      edge.request({ host: `${host}.example.com`, ...options, clientAddress }),
    ),
  );
  return tally(replies.map(({ status }) => status));
}

function tally(statuses: readonly number[]): Readonly<Record<number, number>> {
  const counts: Record<number, number> = {};
  for (const status of statuses) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

describe("limit-rps, limit-rpm", () => {
  test.each([
    ["one", 20, 6],
    ["minute", 20, 6],
    ["both", 20, 6],
    ["multiplier", 20, 2],
  ] as const)("%s: of %d at once %d pass, the others get 503", async (host, count, passed) => {
    const got = await statuses(host, count);
    // A request more may pass in the part of a second that the others take.
    expect(got[200]).toBeGreaterThanOrEqual(passed);
    expect(got[200]).toBeLessThanOrEqual(passed + 1);
    expect((got[200] ?? 0) + (got[503] ?? 0)).toBe(count);
  });

  test.each([
    ["five", 26, 5],
    ["ten", 51, 10],
  ] as const)("%s: burst and rate", async (host, burst, rate) => {
    const startedAt = Date.now();
    const got = await statuses(host, burst * 2);
    const drained = Math.ceil(((Date.now() - startedAt) / 1000) * rate);
    expect(got[200]).toBeGreaterThanOrEqual(burst);
    expect(got[200]).toBeLessThanOrEqual(burst + drained);
  });

  test("one after the other as well", async () => {
    const clientAddress = newClient();
    const got: number[] = [];
    for (let i = 0; i < 7; i++)
      got.push((await edge.request({ host: "six.example.com", clientAddress })).status);
    expect(got.slice(0, 6)).toEqual([200, 200, 200, 200, 200, 200]);
  });

  test("the refusal is nginx's page", async () => {
    const clientAddress = newClient();
    await statuses("minute", 6, { clientAddress });
    const reply = await edge.request({ host: "minute.example.com", clientAddress });
    expect(reply.status).toBe(503);
    expect(reply.text).toContain("503 Service Temporarily Unavailable");
  });

  test("an Ingress counts over all of its hosts", async () => {
    const clientAddress = newClient();
    const first = await statuses("h1", 4, { clientAddress });
    const second = await statuses("h2", 16, { clientAddress });
    expect(first).toEqual({ 200: 4 });
    expect(second[200]).toBeLessThanOrEqual(3);
  });

  test("clients do not share, but an IPv6 /64 is one client", async () => {
    expect(await statuses("one", 6)).toEqual({ 200: 6 });
    const prefix = "2001:db8:1:";
    await statuses("minute", 6, { clientAddress: `${prefix}:1` });
    expect(await statuses("minute", 3, { clientAddress: `${prefix}:ffff` })).toEqual({ 503: 3 });
    expect(await statuses("minute", 3, { clientAddress: "2001:db8:1:1::1" })).toEqual({ 200: 3 });
  });

  test("who is on the allowlist is never counted", async () => {
    expect(await statuses("exempt", 20, { clientAddress: "10.1.2.3" })).toEqual({ 200: 20 });
    expect(await statuses("exempt", 20, { clientAddress: "2001:db8::1" })).toEqual({ 200: 20 });
    expect((await statuses("exempt", 20))[503]).toBeGreaterThan(10);
    // limit-allowlist counts before the older name.
    expect(await statuses("exempt-too", 20, { clientAddress: "10.1.2.4" })).toEqual({ 200: 20 });
    expect((await statuses("exempt-too", 20))[503]).toBeGreaterThan(10);
    expect(await statuses("allowed", 20, { clientAddress: "192.0.2.7" })).toEqual({ 200: 20 });
  });

  test("redirects and preflights use no token; what a check refuses has used one", async () => {
    expect(await statuses("redirected", 20)).toEqual({ 301: 20 });
    expect(
      await statuses("preflight", 20, { method: "OPTIONS", headers: { Origin: "https://a.example" } }),
    ).toEqual({ 204: 20 });
    const got = await statuses("refused", 20);
    expect(got[403]).toBeLessThanOrEqual(7);
    expect(got[503]).toBeGreaterThanOrEqual(13);
  });

  test("an unreadable limit limits nobody", async () => {
    expect(await statuses("unreadable", 30)).toEqual({ 200: 30 });
  });
});

describe("limit-connections", () => {
  test("20 at once: 8 pass and 12 get 503, again and again", async () => {
    const clientAddress = newClient();
    for (let round = 0; round < 4; round++) {
      waiting = [];
      const eight = new Promise<void>((resolve) => {
        arrived = () => waiting.length === 8 && resolve();
      });
      const replies = Array.from({ length: 20 }, () =>
        edge.request({ host: "flight.example.com", clientAddress }),
      );
      const refused: number[] = [];
      const twelve = new Promise<void>((resolve) => {
        for (const reply of replies)
          void reply.then(({ status }) => {
            if (status === 503) refused.push(status);
            if (refused.length === 12) resolve();
          });
      });
      await Promise.all([eight, twelve]);
      for (const finish of waiting) finish();
      expect(tally((await Promise.all(replies)).map(({ status }) => status)), `round ${round}`).toEqual({
        200: 8,
        503: 12,
      });
    }
  });

  test("a client that goes away gives its slot back", async () => {
    const clientAddress = newClient();
    const abort = new AbortController();
    const open = await edge.open({
      host: "stream.example.com",
      path: "/stream",
      clientAddress,
      signal: abort.signal,
    });
    expect(open.statusCode).toBe(200);
    expect((await edge.request({ host: "stream.example.com", path: "/x", clientAddress })).status).toBe(503);
    open.on("error", () => {});
    const gone = new Promise<void>((resolve) => {
      left = resolve;
    });
    abort.abort();
    await gone;
    // The pod has noticed; the count is told a moment later.
    let status = 503;
    while (status === 503) {
      waiting = [];
      arrived = () => waiting[0]?.();
      status = (await edge.request({ host: "stream.example.com", path: "/x", clientAddress })).status;
    }
    expect(status).toBe(200);
  });
});

describe("limit-connections and WebSockets", () => {
  const connect = async (clientAddress: string): Promise<WebSocket> => {
    const socket = new WebSocket(`ws://127.0.0.1:${edge.url.port}/chat`, ["chat"], {
      headers: { Host: "socket.example.com", "CF-Connecting-IP": clientAddress },
    });
    await once(socket, "open");
    return socket;
  };

  test.each<readonly [string, (socket: WebSocket) => void, code: number | undefined]>([
    ["the client closes", (socket) => socket.close(4001, "done"), 4001],
    ["the client closes without a code", (socket) => socket.close(), 1005],
    ["the client goes away", (socket) => socket.close(1001), 1001],
    ["the pod closes", (socket) => socket.send("leave"), 1011],
    ["the client is gone", (socket) => socket.terminate(), undefined],
  ])("one counts until %s", async (_name, leave, code) => {
    const clientAddress = newClient();
    const ask = async () => (await edge.request({ host: "socket.example.com", clientAddress })).status;
    const socket = await connect(clientAddress);
    expect(socket.protocol).toBe("chat");
    expect(await ask()).toBe(503);
    for (const sent of ["hello", Buffer.from([0, 255, 1]), "x".repeat(200_000)]) {
      socket.send(sent);
      const [data, isBinary] = (await once(socket, "message")) as [Buffer, boolean];
      expect([data.toString("latin1"), isBinary]).toEqual([sent.toString("latin1"), Buffer.isBuffer(sent)]);
    }
    expect(await ask()).toBe(503);
    const closed = once(socket, "close");
    leave(socket);
    const [seen] = (await closed) as [number, Buffer];
    if (code !== undefined) expect(seen).toBe(code);
    let status = 503;
    while (status === 503) status = await ask(); // The count is told a moment later.
    expect(status).toBe(200);
  });
});

describe("global-rate-limit", () => {
  test("so many in a window, then 429; by its own key", async () => {
    const path = (key: string) => ({ path: `/?key=${key}` });
    const got = await statuses("window", 12, path("a"));
    expect(got).toEqual({ 200: 5, 429: 7 });
    // Other clients share the key, other keys do not.
    expect(await statuses("window", 3, path("a"))).toEqual({ 429: 3 });
    expect(await statuses("window", 3, path("b"))).toEqual({ 200: 3 });
    expect(await statuses("window", 9, { ...path("a"), clientAddress: "10.0.0.1" })).toEqual({ 200: 9 });
  });
});

test("answers tell what remains where the operator wants it", async () => {
  const clientAddress = newClient();
  const first = await edge.request({ host: "minute.example.com", clientAddress });
  expect(first.headers.ratelimit).toBeUndefined();
  await edge.apply({
    "settings.yaml": settings({ "fairlead-limit-headers": "true", "limit-req-status-code": "429" }),
  });
  const second = await edge.request({ host: "minute.example.com", clientAddress });
  expect([second.status, second.headers.ratelimit]).toEqual([200, '"client";r=4']);
  await statuses("minute", 10, { clientAddress });
  const refused = await edge.request({ host: "minute.example.com", clientAddress });
  expect(refused.status).toBe(429);
  expect(refused.headers.ratelimit).toMatch(/^"client";r=0;t=\d+$/);
  expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
});

/** The controller's ConfigMap. */
function settings(data: Readonly<Record<string, string>>): string {
  const metadata = { namespace: "ingress-nginx", name: "ingress-nginx-controller" };
  return JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata, data });
}

test("statuses, the width of an IPv6 client and the mode are the operator's", async () => {
  await edge.apply({
    "settings.yaml": settings({
      "fairlead-limit-mode": "local",
      "fairlead-limit-ipv6-prefix": "48",
      "limit-conn-status-code": "430",
      "global-rate-limit-status-code": "420",
    }),
  });
  await statuses("minute", 6, { clientAddress: "2001:db8:48:1::1" });
  expect(await statuses("minute", 2, { clientAddress: "2001:db8:48:2::1" })).toEqual({ 503: 2 });
  expect(await statuses("window", 6, { path: "/?key=statuses" })).toEqual({ 200: 5, 420: 1 });
  const clientAddress = newClient();
  const open = await edge.open({ host: "stream.example.com", path: "/stream", clientAddress });
  expect((await edge.request({ host: "stream.example.com", path: "/x", clientAddress })).status).toBe(430);
  open.destroy();
});
