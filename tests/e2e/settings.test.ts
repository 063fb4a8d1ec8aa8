/** The controller's ConfigMap: what it sets for every route, what annotations change of it, and that changes are live. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;
let podHeaders: Record<string, string>;

const site = (service: string, name: string, annotations: Record<string, string> = {}, more = {}) =>
  ingress(service, { host: `${name}.example.com`, annotations, ...more });

const configMap = (name: string, data: Record<string, string>, namespace: string) =>
  `---\n${JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace }, data })}\n`;

beforeAll(async () => {
  edge = await Edge.start({
    args: ["--configmap", "ops/edge"],
    backends: {
      web: 1,
      teller: (_request, response) => {
        for (const [name, value] of Object.entries(podHeaders)) response.setHeader(name, value);
        response.end("pod");
      },
      ill: 2,
    },
    manifests: {
      "routes.yaml": [
        site("web", "plain"),
        site("web", "tls", {}, { tls: [{ hosts: ["tls.example.com"] }] }),
        site(
          "web",
          "tls-free",
          {},
          { tls: [{ hosts: ["tls-free.example.com"] }], paths: { "/free": "Prefix" } },
        ),
        site("web", "forced", { "force-ssl-redirect": "true" }),
        site("web", "own", {
          "proxy-body-size": "20",
          "whitelist-source-range": "203.0.113.0/24",
          "denylist-source-range": "203.0.113.9",
        }),
        site("web", "www", { "from-to-www-redirect": "true" }),
        site("web", "limited", { "limit-rpm": "1", "limit-burst-multiplier": "1" }),
        site("web", "crowded", { "limit-connections": "1" }),
        site("teller", "teller"),
        site("ill", "ill"),
        site("ill", "ill-own", { "proxy-next-upstream": "error" }),
      ].join(""),
    },
  });
  for (const pod of edge.backends.get("ill") ?? []) {
    pod.onRequest = (_request, response) => {
      response.statusCode = 500;
      response.end();
    };
  }
});

beforeEach(() => {
  podHeaders = {};
});
afterAll(async () => edge.stop());

const apply = (data: Record<string, string>, more = "") =>
  edge.apply({ "settings.yaml": configMap("edge", data, "ops") + more });

interface Ask {
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly from?: string;
  readonly body?: string;
}
const ask = (name: string, { path = "/", headers = {}, from = "203.0.113.7", body }: Ask = {}) =>
  edge.request({
    host: `${name}.example.com`,
    path,
    headers,
    clientAddress: from,
    ...(body === undefined ? {} : { method: "POST", body }),
  });
const status = async (name: string, options: Ask = {}) => (await ask(name, options)).status;

describe("defaults under the annotations", () => {
  test("proxy-body-size, whitelist-source-range, denylist-source-range", async () => {
    await apply({
      "proxy-body-size": "10",
      "whitelist-source-range": "192.0.2.0/24",
      "denylist-source-range": "192.0.2.9",
    });
    expect(await status("plain")).toBe(403);
    expect(await status("plain", { from: "192.0.2.1" })).toBe(200);
    expect(await status("plain", { from: "192.0.2.9" })).toBe(403);
    expect(await status("plain", { from: "192.0.2.1", body: "eleven char" })).toBe(413);
    expect(await status("own", { body: "eleven char" })).toBe(200);
    expect(await status("own", { from: "203.0.113.9" })).toBe(403);
  });

  test("an unreadable list denies every route that does not bring its own", async () => {
    await apply({ "whitelist-source-range": "nobody" });
    expect(await status("plain", { from: "192.0.2.1" })).toBe(503);
    expect(await status("own")).toBe(200);
  });

  test("ssl-redirect, http-redirect-code, no-tls-redirect-locations", async () => {
    await apply({ "http-redirect-code": "301", "no-tls-redirect-locations": "/free" });
    expect(await status("tls")).toBe(301);
    expect(await status("forced")).toBe(301);
    expect(await status("tls-free", { path: "/free" })).toBe(200);
    const reply = await edge.request({ host: "example.com", path: "/x" });
    expect(reply.status).toBe(301);
    await apply({ "ssl-redirect": "false", "http-redirect-code": "200" });
    expect(await status("tls")).toBe(200);
    expect(await status("forced")).toBe(308);
    await apply({ "force-ssl-redirect": "true" });
    expect(await status("plain")).toBe(308);
  });

  test("proxy-next-upstream, proxy-next-upstream-tries, retry-non-idempotent", async () => {
    const requests = () => (edge.backends.get("ill") ?? []).reduce((sum, pod) => sum + pod.requests, 0);
    const tries = async (name: string, options: Ask = {}) => {
      const before = requests();
      await ask(name, options);
      return requests() - before;
    };
    await apply({});
    expect(await tries("ill")).toBe(1);
    await apply({ "proxy-next-upstream": "http_500", "proxy-next-upstream-tries": "2" });
    expect(await tries("ill")).toBe(2);
    expect(await tries("ill-own")).toBe(1);
    expect(await tries("ill", { body: "x" })).toBe(1);
    await apply({ "proxy-next-upstream": "http_500", "retry-non-idempotent": "true" });
    expect(await tries("ill", { body: "x" })).toBe(3);
  });
});

describe("limits", () => {
  /** Statuses of requests one after the other. */
  const burst = async (count: number, from: (at: number) => string) => {
    const replies = [];
    for (let at = 0; at < count; at++) replies.push(await ask("limited", { from: from(at) }));
    return replies;
  };

  test("limit-req-status-code, limit-conn-status-code, fairlead-limit-*", async () => {
    await apply({
      "limit-req-status-code": "429",
      "limit-conn-status-code": "430",
      "fairlead-limit-headers": "true",
    });
    const refused = (await burst(3, () => "198.51.100.1")).at(-1);
    expect(refused?.status).toBe(429);
    expect(Number(refused?.headers["retry-after"])).toBeGreaterThan(0);
    // One household: addresses of one /64 count together, and apart under a longer prefix.
    const household = (at: number) => `2001:db8:1:1::${at + 1}`;
    expect((await burst(3, household)).at(-1)?.status).toBe(429);
    await apply({ "fairlead-limit-mode": "local", "fairlead-limit-ipv6-prefix": "128" });
    expect((await burst(3, household)).map((reply) => reply.status)).toEqual([200, 200, 200]);
    expect((await burst(3, () => "2001:db8:2::1")).at(-1)?.status).toBe(503);
    expect((await ask("crowded", { from: "198.51.100.2" })).status).toBe(200);
  });
});

describe("headers", () => {
  test("add-headers, proxy-set-headers, hide-headers", async () => {
    podHeaders = { "X-Powered-By": "pod", Via: "1.1 pod", "X-Frame-Options": "ALLOW" };
    await apply(
      {
        "add-headers": "ops/to-clients",
        "proxy-set-headers": "ops/to-pods",
        "hide-headers": "x-powered-by, Via",
      },
      configMap("to-clients", { "X-Frame-Options": "DENY", "X-Literal": "$host" }, "ops") +
        configMap("to-pods", { "X-Uri": "$request_uri of $host", "X-Real-IP": "none" }, "ops"),
    );
    const told = (await ask("teller")).headers;
    expect(told).toMatchObject({ "x-frame-options": "DENY", "x-literal": "$host" });
    expect([told["x-powered-by"], told.via]).toEqual([undefined, undefined]);
    const { echo } = await ask("plain", { path: "/a?b", headers: { "X-Uri": "forged" } });
    expect(echo.headers).toMatchObject({ "x-uri": "/a?b of plain.example.com", "x-real-ip": "none" });
  });

  test("generate-request-id, proxy-add-original-uri-header", async () => {
    await apply({});
    expect((await ask("plain")).echo.headers["x-request-id"]).toMatch(/^[0-9a-f]{32}$/);
    expect((await ask("plain")).echo.headers["x-original-uri"]).toBeUndefined();
    await apply({ "generate-request-id": "false", "proxy-add-original-uri-header": "true" });
    const { echo } = await ask("plain", { path: "/a%20b?c" });
    expect(echo.headers["x-request-id"]).toBeUndefined();
    expect(echo.headers["x-original-uri"]).toBe("/a%20b?c");
    expect((await ask("plain", { headers: { "X-Request-ID": "mine" } })).echo.headers["x-request-id"]).toBe(
      "mine",
    );
  });
});

describe("forwarded headers", () => {
  const FORWARDED = {
    "X-Forwarded-For": "198.51.100.1, 192.0.2.77",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "outside.example:8443",
    "X-Forwarded-Port": "8443",
  };
  const seen = async (from: string, headers: Record<string, string> = FORWARDED) =>
    (await ask("plain", { from, headers })).echo.headers;

  test("nobody is believed by default, nor when everybody should be", async () => {
    for (const data of [
      {},
      { "use-forwarded-headers": "true" },
      { "use-forwarded-headers": "true", "proxy-real-ip-cidr": "0.0.0.0/0" },
    ] as Record<string, string>[]) {
      await apply(data);
      expect(await seen("203.0.113.7")).toMatchObject({
        host: "plain.example.com",
        "x-real-ip": "203.0.113.7",
        "x-forwarded-for": "203.0.113.7",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "plain.example.com",
        "x-original-forwarded-for": "198.51.100.1, 192.0.2.77",
      });
    }
  });

  test("use-forwarded-headers with proxy-real-ip-cidr: a named proxy is believed, others are not", async () => {
    await apply({ "use-forwarded-headers": "true", "proxy-real-ip-cidr": "192.0.2.0/24" });
    expect(await seen("192.0.2.1")).toMatchObject({
      host: "outside.example:8443",
      "x-real-ip": "198.51.100.1",
      "x-forwarded-for": "198.51.100.1",
      "x-forwarded-proto": "https",
      "x-forwarded-host": "outside.example:8443",
      "x-forwarded-port": "8443",
    });
    expect(await seen("203.0.113.7")).toMatchObject({
      "x-real-ip": "203.0.113.7",
      "x-forwarded-proto": "http",
    });
    const reply = await ask("forced", { from: "192.0.2.1", headers: { "X-Forwarded-Proto": "https" } });
    expect(reply.status).toBe(200);
    const nonsense = await seen("192.0.2.1", { "X-Forwarded-For": "nonsense", "X-Forwarded-Host": "a b" });
    expect(nonsense).toMatchObject({ "x-real-ip": "192.0.2.1", host: "plain.example.com" });
  });

  test("access lists go by the believed address", async () => {
    await apply({
      "enable-real-ip": "true",
      "proxy-real-ip-cidr": "192.0.2.0/24",
      "forwarded-for-header": "X-Client",
    });
    expect(await status("own", { from: "192.0.2.1", headers: { "X-Client": "203.0.113.1" } })).toBe(200);
    expect(await status("own", { from: "192.0.2.1", headers: { "X-Client": "203.0.113.9" } })).toBe(403);
    expect(await status("own", { from: "198.51.100.1", headers: { "X-Client": "203.0.113.1" } })).toBe(403);
    expect(
      (await seen("192.0.2.1", { "X-Client": "198.51.100.1", "X-Forwarded-Proto": "https" }))[
        "x-forwarded-proto"
      ],
    ).toBe("http");
  });

  test("compute-full-forwarded-for", async () => {
    await apply({ "compute-full-forwarded-for": "true" });
    const chain = async (given?: string) =>
      (await seen("203.0.113.7", given === undefined ? {} : { "X-Forwarded-For": given }))["x-forwarded-for"];
    expect(await chain()).toBe("203.0.113.7");
    expect(await chain("198.51.100.1")).toBe("198.51.100.1, 203.0.113.7");
    expect(await chain("198.51.100.1, 203.0.113.7")).toBe("198.51.100.1, 203.0.113.7");
  });
});

test("block-cidrs, block-user-agents, block-referers", async () => {
  await apply({
    "block-cidrs": "192.0.2.0/24",
    "block-user-agents": "Bad Bot/1.0,~curl,~*^python-",
    "block-referers": "~*spam\\.example",
  });
  const by = (headers: Record<string, string>) => status("own", { headers });
  expect(await status("plain", { from: "192.0.2.1" })).toBe(403);
  expect(await by({ "User-Agent": "bad bot/1.0" })).toBe(403);
  expect(await by({ "User-Agent": "Bad Bot/1.0.1" })).toBe(200);
  expect(await by({ "User-Agent": "my curl/8" })).toBe(403);
  expect(await by({ "User-Agent": "my CURL/8" })).toBe(200);
  expect(await by({ "User-Agent": "Python-requests" })).toBe(403);
  expect(await by({ "User-Agent": "a python-requests" })).toBe(200);
  expect(await by({ Referer: "https://www.SPAM.example/x" })).toBe(403);
  expect(await by({ Referer: "https://www.ham.example/x" })).toBe(200);
  await apply({ "block-user-agents": "~(?=x)" });
  expect(await by({})).toBe(503);
  await apply({});
  expect(await by({ "User-Agent": "my curl/8" })).toBe(200);
});
