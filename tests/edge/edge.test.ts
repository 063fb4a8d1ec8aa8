/** The whole Worker in a plain workerd, over real sockets: hosts, paths, headers, error pages. */

import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { configOf } from "./edge-config-of.ts";
import { EdgeUnderTest } from "./edge-under-test.ts";
import { type Ask, ask, askRaw, type Reply } from "./http-client.ts";
import { Pod, type Seen } from "./pod.ts";

let edge: EdgeUnderTest;
let pod: Pod;
let special: Pod;

const GZIP = gzipSync("hello hello hello hello hello hello", { level: 1 });

beforeAll(async () => {
  pod = await Pod.start("pod");
  special = await Pod.start("special", (request, response) => {
    switch (request.url) {
      case "/special/gzip":
        response.setHeader("Content-Encoding", "gzip").setHeader("Content-Length", GZIP.length).end(GZIP);
        break;
      case "/special/not-really-gzip":
        response.setHeader("Content-Encoding", "gzip").end("plain");
        break;
      case "/special/cookies":
        response.setHeader("Set-Cookie", ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2"]).end();
        break;
      case "/special/nginx":
        response
          .setHeader("Server", "pod/1.0")
          .setHeader("X-Powered-By", "tests")
          .setHeader("Via", "1.1 pod")
          .setHeader("X-Accel-Buffering", "no")
          .setHeader("X-Accel-Redirect", "/secret")
          .end("ok");
        break;
      case "/special/204":
        response.writeHead(204, { "X-A": "1" }).end();
        break;
      case "/special/304":
        response.writeHead(304, { ETag: '"e"' }).end();
        break;
      case "/special/redirect":
        response.writeHead(302, { Location: "http://elsewhere.example/" }).end();
        break;
      case "/special/reason":
        response.writeHead(299, "Odd Reason").end("x");
        break;
      case "/special/range":
        response.writeHead(206, { "Content-Range": "bytes 0-1/10" }).end(request.headers.range);
        break;
      case "/special/length":
        response.setHeader("Content-Length", 5).end(request.method === "HEAD" ? undefined : "12345");
        break;
      default:
        response.writeHead(500).end();
    }
  });
  const to = (endpoints: readonly string[], more = {}) => ({ endpoints, ...more });
  edge = await EdgeUnderTest.start(
    configOf(
      {
        "shop.example.com": {
          "/": to([pod.address]),
          "/special": to([special.address]),
          "/exact": to([pod.address], { pathType: "Exact" }),
          "/empty": to([]),
          "/denied": to([pod.address], { denied: "the test says so" }),
          "/dead": to(["127.0.0.1:1"]),
        },
        "paths.example.com": { "/foo": to([pod.address]), "/a/b": to([pod.address], { pathType: "Exact" }) },
        "denied.example.com": { "/": to([pod.address]) },
        "nginx.example.com": {
          "/my path/": to([pod.address]),
          "/x/": to([pod.address], { pathType: "Exact" }),
        },
        "*.wild.example.com": { "/": to([pod.address]) },
      },
      { "denied.example.com": { denied: "the test says so" }, "nginx.example.com": { matching: "nginx" } },
    ),
  );
}, 30_000);

afterAll(async () => {
  await edge?.stop();
  await pod?.stop();
  await special?.stop();
});

const get = (what: Ask): Promise<Reply> => ask(edge.process.port, what);
const seen = async (what: Ask): Promise<Seen> => JSON.parse((await get(what)).body.toString()) as Seen;

describe("hosts", () => {
  test.each([
    ["shop.example.com", 200],
    ["SHOP.example.COM", 200],
    ["shop.example.com:8080", 200],
    ["shop.example.com.", 200],
    ["a.wild.example.com", 200],
    ["a.b.wild.example.com", 404],
    ["wild.example.com", 404],
    ["nowhere.example.com", 404],
    ["denied.example.com", 403],
    ["constructor", 404],
    ["a..b", 400],
  ])("%s is answered with %i", async (host, status) => {
    expect((await get({ host })).status).toBe(status);
  });

  test("a request without Host is refused", async () => {
    expect(await askRaw(edge.process.port, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n")).toMatch(
      /^HTTP\/1\.1 400 /,
    );
  });
});

describe("paths are normalised for the choice of the route, and sent as they came", () => {
  test.each([
    ["/foo", 200],
    ["/foo/bar?x=/../y", 200],
    ["/foobar", 404],
    ["/FOO", 404],
    ["/x/../foo", 200],
    ["//foo", 200],
    ["/%66oo", 200],
    ["/a%2Fb", 200],
    ["/a//b", 200],
    ["/a/b/", 404],
    ["/", 404],
    ["/..", 400],
    ["/%2e%2e/foo", 400],
    ["/foo%00", 400],
    ["/foo%zz", 400],
  ])("%s is answered with %i", async (path, status) => {
    expect((await get({ host: "paths.example.com", path })).status).toBe(status);
  });

  test.each([
    "/%66oo?a=%2F&b=/../c",
    "/foo//bar/%2F%25/~;,+@",
    "/foo/%C3%A9/%e9",
    "/foo?",
    "/foo?a?b",
    "/foo/|",
  ])("the pod sees %s", async (path) => {
    expect((await seen({ host: "paths.example.com", path })).url).toBe(path);
  });

  test("but for what `fetch` changes, in the direct transport: dot segments and what is no URL; a backslash is escaped, not taken for a slash", async () => {
    const path = "/foo/a/./b/../c\\d{}";
    expect((await seen({ host: "paths.example.com", path })).url).toBe("/foo/a/c%5Cd%7B%7D");
  });

  test("trailing slash as nginx has it", async () => {
    const reply = await get({ host: "NGINX.example.com:8080", path: "/my%20path?a=b" });
    expect([reply.status, reply.headers.location]).toEqual([301, "http://nginx.example.com/my%20path/?a=b"]);
    expect((await get({ host: "nginx.example.com", path: "/x", method: "POST" })).status).toBe(301);
  });
});

describe("error pages", () => {
  test.each([
    ["/empty", 503, "503 Service Temporarily Unavailable"],
    ["/denied", 503, "503 Service Temporarily Unavailable"],
    ["/dead", 502, "502 Bad Gateway"],
    ["/%zz", 400, "400 Bad Request"],
  ])("%s: %i", async (path, status, title) => {
    for (const method of ["GET", "POST", "DELETE"]) {
      const reply = await get({ path, method });
      expect([reply.status, reply.headers["content-type"]]).toEqual([status, "text/html"]);
      expect(reply.body.toString()).toContain(`<h1>${title}</h1>`);
      expect(reply.headers.server).toBe("fairlead");
    }
    const head = await get({ path, method: "HEAD" });
    expect([head.status, head.body.length]).toEqual([status, 0]);
    expect(Number(head.headers["content-length"])).toBeGreaterThan(0);
  });

  test("an unknown host gets nginx's 404", async () => {
    expect((await get({ host: "nowhere" })).body.toString()).toContain("404 Not Found");
  });
});

describe("headers to the pod", () => {
  test("the standard ones", async () => {
    const { headers } = await seen({
      host: "Shop.example.com:8080",
      headers: { "CF-Connecting-IP": "203.0.113.7" },
    });
    expect(headers).toMatchObject({
      "x-real-ip": "203.0.113.7",
      "x-forwarded-for": "203.0.113.7",
      "x-forwarded-host": "Shop.example.com:8080",
      "x-forwarded-port": "80",
      "x-forwarded-proto": "http",
      "x-forwarded-scheme": "http",
      "x-scheme": "http",
    });
    expect(headers["x-request-id"]).toMatch(/^[0-9a-f]{32}$/);
    expect(Object.keys(headers).filter((name) => name.startsWith("x-original"))).toEqual([]);
  });

  test("cannot be forged", async () => {
    const { headers } = await seen({
      headers: {
        "CF-Connecting-IP": "203.0.113.7",
        "X-Real-IP": "10.6.6.6",
        "X-Forwarded-For": "10.6.6.6, 10.7.7.7",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Port": "666",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Scheme": "https",
        "X-Scheme": "https",
        "X-Original-Forwarded-For": "10.8.8.8",
        "X-Original-Forwarded-Host": "worse.example",
        Proxy: "http://evil.example",
        X_Real_IP: "10.6.6.6",
        TE: "trailers",
        "Keep-Alive": "timeout=5",
        Connection: "close",
      },
    });
    expect(headers).toMatchObject({
      "x-real-ip": "203.0.113.7",
      "x-forwarded-for": "203.0.113.7",
      "x-forwarded-host": "shop.example.com",
      "x-forwarded-port": "80",
      "x-forwarded-proto": "http",
      "x-forwarded-scheme": "http",
      "x-scheme": "http",
      "x-original-forwarded-for": "10.6.6.6, 10.7.7.7",
      "x-original-forwarded-host": "evil.example",
    });
    for (const name of ["proxy", "x_real_ip", "te", "keep-alive", "expect"])
      expect(headers).not.toHaveProperty(name);
  });

  test("a client's X-Request-ID is kept, an empty one replaced", async () => {
    expect((await seen({ headers: { "X-Request-ID": "abc" } })).headers["x-request-id"]).toBe("abc");
    expect((await seen({ headers: { "X-Request-ID": "" } })).headers["x-request-id"]).toMatch(
      /^[0-9a-f]{32}$/,
    );
  });

  test("without a word of the platform, the peer is the client", async () => {
    expect((await seen({})).headers["x-real-ip"]).toBe("127.0.0.1");
  });

  test("all others pass, Accept-Encoding and Range among them", async () => {
    const headers = {
      "Accept-Encoding": "zstd",
      Range: "bytes=0-1",
      Cookie: "a=b; c=d",
      "X-Any": "thing",
      Authorization: "Basic eA==",
    };
    const got = (await seen({ headers })).headers;
    for (const [name, value] of Object.entries(headers)) expect(got[name.toLowerCase()]).toBe(value);
    expect((await seen({})).headers).not.toHaveProperty("accept-encoding");
  });
});

describe("methods", () => {
  test.each([
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "PROPFIND",
    "PURGE",
    "LOCK",
    "REPORT",
    "SEARCH",
  ])("%s", async (method) => {
    expect(await seen({ method })).toMatchObject({ method, bodyLength: 0 });
  });

  test.each(["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GET"])("%s with a body", async (method) => {
    expect(await seen({ method, body: "12345", headers: { "Content-Length": "5" } })).toMatchObject({
      method,
      bodyLength: 5,
    });
    // The runtime's own `fetch` sends a GET's body only where its length is known.
    expect(await seen({ method, body: "12345", headers: { "Transfer-Encoding": "chunked" } })).toMatchObject({
      method,
      bodyLength: method === "GET" ? 0 : 5,
    });
  });

  test("a GET with a body gets the same headers as any other", async () => {
    const { headers } = await seen({
      body: "12345",
      headers: {
        "Content-Length": "5",
        "X-Forwarded-For": "10.6.6.6",
        Proxy: "x",
        "CF-Connecting-IP": "203.0.113.7",
      },
    });
    expect(headers).toMatchObject({
      "x-forwarded-for": "203.0.113.7",
      "x-original-forwarded-for": "10.6.6.6",
    });
    expect(headers).not.toHaveProperty("proxy");
  });

  test("HEAD has the headers and no body", async () => {
    const reply = await get({ method: "HEAD", path: "/special/length" });
    expect([reply.status, reply.headers["content-length"], reply.body.length]).toEqual([200, "5", 0]);
  });

  test("a compressed request body arrives as it was sent", async () => {
    const reply = await seen({ method: "POST", body: GZIP, headers: { "Content-Encoding": "gzip" } });
    expect([reply.bodyLength, reply.headers["content-encoding"]]).toEqual([GZIP.length, "gzip"]);
  });
});

describe("answers of the pod", () => {
  const from = (path: string, more: Ask = {}): Promise<Reply> => get({ path: `/special/${path}`, ...more });

  test("compressed bytes are not touched", async () => {
    const reply = await from("gzip", { headers: { "Accept-Encoding": "gzip" } });
    expect(reply.body.equals(GZIP)).toBe(true);
    expect(reply.headers).toMatchObject({
      "content-encoding": "gzip",
      "content-length": String(GZIP.length),
    });
    expect((await from("gzip")).body.equals(GZIP)).toBe(true);
    expect((await from("not-really-gzip")).body.toString()).toBe("plain");
  });

  test("every Set-Cookie stays one of its own", async () => {
    expect((await from("cookies")).headers["set-cookie"]).toEqual([
      "a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
      "b=2",
    ]);
  });

  test("Server and X-Accel-* are the pod's own affair, the rest passes", async () => {
    const { headers } = await from("nginx");
    expect(headers).toMatchObject({ server: "fairlead", "x-powered-by": "tests", via: "1.1 pod" });
    expect(Object.keys(headers).filter((name) => name.startsWith("x-accel"))).toEqual([]);
  });

  test("statuses, reasons and redirects", async () => {
    expect(await from("204")).toMatchObject({ status: 204, body: Buffer.alloc(0), headers: { "x-a": "1" } });
    expect(await from("304")).toMatchObject({ status: 304, headers: { etag: '"e"' } });
    expect(await from("redirect")).toMatchObject({
      status: 302,
      headers: { location: "http://elsewhere.example/" },
    });
    expect(await from("reason")).toMatchObject({ status: 299, reason: "Odd Reason" });
    const ranged = await from("range", { headers: { Range: "bytes=0-1" } });
    expect([ranged.status, ranged.headers["content-range"], ranged.body.toString()]).toEqual([
      206,
      "bytes 0-1/10",
      "bytes=0-1",
    ]);
  });
});

describe("/.fairlead/status", () => {
  test("tells the configuration in use", async () => {
    await get({});
    const status = JSON.parse((await get({ path: "/.fairlead/status" })).body.toString()) as Record<
      string,
      unknown
    >;
    expect(status).toMatchObject({ generation: 1, epoch: 0, lastError: null });
    expect(status.kvReads).toBeGreaterThan(0);
  });

  test("is a path like any other unless it is switched on", async () => {
    const closed = await EdgeUnderTest.start(configOf({ "shop.example.com": { "/": [pod.address] } }), {
      STATUS: "off",
    });
    try {
      const reply = await ask(closed.process.port, { path: "/.fairlead/status" });
      expect((JSON.parse(reply.body.toString()) as Seen).url).toBe("/.fairlead/status");
    } finally {
      await closed.stop();
    }
  });
});

test("an unusable setting is told in one sentence, and answered with 500", async () => {
  const broken = await EdgeUnderTest.start(undefined, { ORIGIN_TRANSPORT: "carrier-pigeon" });
  try {
    const reply = await ask(broken.process.port, {});
    expect(reply.status).toBe(500);
    expect(reply.body.toString()).not.toContain("carrier-pigeon");
    // The log comes by a pipe of its own, perhaps after the reply.
    await vi.waitFor(
      () =>
        expect(broken.process.log).toContain(
          'ORIGIN_TRANSPORT is "carrier-pigeon", but "gateway" or "direct" is expected.',
        ),
      { timeout: 10_000 },
    );
  } finally {
    await broken.stop();
  }
});
