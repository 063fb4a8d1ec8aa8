/** Between edge and pod: what is tried again, how long it may take, how much may be sent, and how pods are spoken to. */

import { createServer as createTlsServer, type Server } from "node:https";
import { type AddressInfo, createServer as createSilent, type Server as TcpServer } from "node:net";
import { Readable } from "node:stream";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createAuthority } from "../gateway/certificates.ts";
import { serviceManifests } from "./support/backend.ts";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;
let tls: Server;
let silent: TcpServer;
/** Requests that pods got since the test began, in order. */
let seen: string[];
const dead = 9; // The discard port: nobody listens.

const site = (service: string, name: string, annotations: Record<string, string> = {}) =>
  ingress(service, { host: `${name}.example.com`, annotations });

beforeAll(async () => {
  const authority = await createAuthority();
  const { cert, key } = await authority.issue("pod.example.net");
  await authority.close();
  tls = createTlsServer({ cert, key }, (request, response) => {
    response.end(JSON.stringify({ pod: "tls", headers: request.headers }));
  });
  await new Promise<void>((resolve) => tls.listen(0, "127.0.0.1", resolve));
  silent = createSilent(() => {});
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const portOf = (server: Server | TcpServer) => (server.address() as AddressInfo).port;
  edge = await Edge.start({
    backends: {
      web: 1,
      // Two pods behind one name: each answers with the status in the path, the first time it is asked.
      flaky: 2,
      slow: (request, response) => {
        const { pathname, searchParams } = new URL(request.url ?? "/", "http://pod");
        if (pathname === "/head") {
          seen.push("slow");
          setTimeout(() => response.end("late"), Number(searchParams.get("ms")));
          return;
        }
        response.write("a");
        let pieces = Number(searchParams.get("pieces"));
        const next = () => {
          response.write("b");
          if (--pieces > 0) setTimeout(next, Number(searchParams.get("ms")));
          else response.end("c");
        };
        setTimeout(next, Number(searchParams.get("ms")));
      },
      big: (_request, response) => response.end(Buffer.alloc(40 * 1024, "x")),
    },
    manifests: [
      [
        serviceManifests("half", [{ port: dead }]),
        throughClusterIp("by-ip", portOf(tls)),
        serviceManifests("tls", [{ port: portOf(tls) }]),
        serviceManifests("silent", [{ port: portOf(silent) }]),
      ].join("---\n"),
      site("flaky", "default"),
      site("flaky", "by-503", { "proxy-next-upstream": "error timeout http_503" }),
      site("flaky", "by-all", {
        "proxy-next-upstream": "http_403 http_404 http_429 http_500 http_502 http_503 http_504",
      }),
      site("flaky", "by-503-once", { "proxy-next-upstream": "http_503", "proxy-next-upstream-tries": "1" }),
      site("flaky", "by-503-post", { "proxy-next-upstream": "http_503 non_idempotent" }),
      site("flaky", "by-503-off", { "proxy-next-upstream": "http_503 off" }),
      site("flaky", "wrong", { "proxy-next-upstream": "http_418" }),
      site("flaky", "empty", { "proxy-next-upstream": "" }),
      site("flaky", "tries-wrong", { "proxy-next-upstream": "http_503", "proxy-next-upstream-tries": "two" }),
      site("flaky", "tries-0", { "proxy-next-upstream": "http_503", "proxy-next-upstream-tries": "0" }),
      site("flaky", "error-off", { "proxy-next-upstream": "off" }),
      site("flaky", "no-error", { "proxy-next-upstream": "timeout" }),
      site("flaky", "budget", {
        "proxy-next-upstream": "http_503",
        "proxy-next-upstream-timeout": "1",
        "proxy-next-upstream-tries": "50",
      }),
      site("half", "refused"),
      site("slow", "read-1", { "proxy-read-timeout": "1", "proxy-next-upstream": "off" }),
      site("slow", "read-2", { "proxy-read-timeout": "2" }),
      site("slow", "read-tries", { "proxy-read-timeout": "1", "proxy-next-upstream-tries": "2" }),
      site("slow", "read-wrong", { "proxy-read-timeout": "1s" }),
      site("silent", "send", { "proxy-send-timeout": "1", "proxy-body-size": "0" }),
      site("web", "send-web", { "proxy-send-timeout": "1" }),
      site("silent", "connect", {
        "proxy-connect-timeout": "1",
        "proxy-read-timeout": "1",
        "proxy-next-upstream-tries": "1",
      }),
      site("web", "body-default"),
      site("web", "body-10", { "proxy-body-size": "10" }),
      site("web", "body-1k", { "proxy-body-size": "1K" }),
      site("web", "body-0", { "proxy-body-size": "0" }),
      site("web", "body-wrong", { "proxy-body-size": "8Mi" }),
      site("web", "body-empty", { "proxy-body-size": "" }),
      site("web", "body-order", {
        "proxy-body-size": "10",
        "permanent-redirect": "https://elsewhere.example",
        "allowlist-source-range": "192.0.2.0/24",
      }),
      site("web", "body-guarded", { "proxy-body-size": "10", "allowlist-source-range": "192.0.2.0/24" }),
      site("web", "plain"),
      site("tls", "https", { "backend-protocol": "HTTPS" }),
      site("tls", "https-lower", { "backend-protocol": "https" }),
      site("tls", "https-old", { "ingress.kubernetes.io/secure-backends": "true" }),
      site("tls", "https-old-off", { "secure-backends": "false" }),
      site("tls", "http-to-tls"),
      ingress("by-ip", {
        host: "by-ip.example.com",
        port: portOf(tls),
        annotations: { "service-upstream": "true", "backend-protocol": "HTTPS" },
      }),
      site("web", "auto", { "backend-protocol": "AUTO_HTTP" }),
      site("web", "wrong-protocol", { "backend-protocol": "SPDY" }),
      site("web", "fcgi", { "backend-protocol": "FCGI" }),
      site("web", "vhost", { "upstream-vhost": "internal.example.net:81" }),
      site("web", "vhost-wrong", { "upstream-vhost": "a b" }),
      site("big", "rate", { "limit-rate": "20", "limit-rate-after": "20", "proxy-buffering": "on" }),
      site("big", "rate-unbuffered", { "limit-rate": "1" }),
      site("big", "rate-wrong", { "limit-rate": "1k", "proxy-buffering": "on" }),
    ].join(""),
  });
});

/** A Service whose only pod is dead, while its ClusterIP answers. */
function throughClusterIp(name: string, port: number): string {
  return serviceManifests(name, [{ port: dead }], { servicePort: port }).replace(
    "spec:\n",
    "spec:\n  clusterIP: 127.0.0.1\n",
  );
}

beforeEach(() => {
  seen = [];
  for (const pod of edge.backends.get("flaky") ?? []) {
    pod.onRequest = (request, response) => {
      seen.push(pod.name);
      response.shouldKeepAlive = false; // A request on a kept connection is repeated by the gateway.
      response.statusCode = Number(request.url?.slice(1)) || 200;
      response.end(pod.name);
    };
  }
});

afterAll(async () => {
  await edge.stop();
  tls.closeAllConnections();
  tls.close();
  silent.close();
});

const get = (name: string, path = "/", more: { readonly method?: string; readonly body?: string } = {}) =>
  edge.request({ host: `${name}.example.com`, path, ...more });

/** The first pod that is asked fails; whoever comes next answers. */
const failFirst = (fail: (response: import("node:http").ServerResponse) => void) => {
  let failed = false;
  for (const pod of edge.backends.get("flaky") ?? []) {
    pod.onRequest = (_request, response) => {
      seen.push(pod.name);
      response.shouldKeepAlive = false;
      if (failed) return void response.end("well");
      failed = true;
      fail(response);
    };
  }
};
const failWith = (status: number) =>
  failFirst((response) => {
    response.statusCode = status;
    response.end("ill");
  });
const breakOff = () => failFirst((response) => response.socket?.destroy());

describe("proxy-next-upstream", () => {
  test.each([
    ["default", 503, "GET", 503],
    ["by-503", 503, "GET", 200],
    ["by-503", 502, "GET", 502],
    ["by-503", 503, "PUT", 200],
    ["by-503", 503, "POST", 503],
    ["by-503", 503, "PATCH", 503],
    ["by-503-post", 503, "POST", 200],
    ["by-503-once", 503, "GET", 503],
    ["by-503-off", 503, "GET", 503],
    ["wrong", 503, "GET", 503],
    ["empty", 503, "GET", 503],
    ["tries-wrong", 503, "GET", 200],
    ["by-all", 403, "GET", 200],
    ["by-all", 404, "GET", 200],
    ["by-all", 429, "GET", 200],
    ["by-all", 500, "GET", 200],
    ["by-all", 502, "GET", 200],
    ["by-all", 504, "GET", 200],
    ["by-all", 501, "GET", 501],
  ] as const)("%s: %d to a %s → %d", async (name, first, method, want) => {
    failWith(first);
    const body = method === "GET" ? {} : { body: "text" };
    expect((await get(name, "/", { method, ...body })).status).toBe(want);
    expect(new Set(seen).size).toBe(seen.length);
  });

  test.each([
    ["default", "GET", 200],
    ["default", "POST", 502],
    ["error-off", "GET", 502],
    ["no-error", "GET", 502],
  ] as const)("%s: a %s that breaks off → %d", async (name, method, want) => {
    breakOff();
    expect((await get(name, "/", { method, ...(method === "POST" ? { body: "x" } : {}) })).status).toBe(want);
  });

  test("proxy-next-upstream-tries: three by default, and 0 ends after each pod was asked three times", async () => {
    await get("by-503", "/503");
    expect(seen).toHaveLength(3);
    seen = [];
    await get("tries-0", "/503");
    expect(seen).toHaveLength(6);
  });

  test("the last failure is the answer", async () => {
    const reply = await get("by-503", "/503");
    expect([reply.status, reply.text]).toEqual([503, seen.at(-1)]);
  });

  test("proxy-next-upstream-timeout: no attempt starts after it", async () => {
    for (const pod of edge.backends.get("flaky") ?? []) {
      pod.onRequest = (_request, response) => {
        seen.push(pod.name);
        setTimeout(() => {
          response.statusCode = 503;
          response.end();
        }, 400);
      };
    }
    expect((await get("budget")).status).toBe(503);
    expect(seen.length).toBeGreaterThanOrEqual(2);
    expect(seen.length).toBeLessThanOrEqual(4);
  });

  test("no pod that listens → 502", async () => {
    const reply = await get("refused");
    expect(reply.status).toBe(502);
    expect(reply.text).toContain("502 Bad Gateway");
  });
});

describe("proxy-read-timeout, proxy-connect-timeout, proxy-send-timeout", () => {
  test("no head in time → 504; with tries, one for each", async () => {
    const reply = await get("read-1", "/head?ms=3000");
    expect(reply.status).toBe(504);
    expect(reply.text).toContain("504 Gateway Time-out");
    seen = [];
    expect((await get("read-tries", "/head?ms=3000")).status).toBe(504);
    expect(seen).toHaveLength(2);
  });

  test("an unreadable one is the default one", async () => {
    expect((await get("read-wrong", "/head?ms=1200")).status).toBe(200);
  });

  test("it holds between two pieces, not in total", async () => {
    expect((await get("read-2", "/body?pieces=5&ms=700")).text).toBe("abbbbbc");
  });

  test("a pause that is too long breaks the answer off", async () => {
    await expect(get("read-1", "/body?pieces=2&ms=3000")).rejects.toThrow("aborted");
  });

  test("a pod that takes the connection and says nothing → 504", async () => {
    expect((await get("connect")).status).toBe(504);
  });

  test("a pod that takes no more of a body → 504", async () => {
    const endless = new Readable({
      read() {
        this.push(Buffer.alloc(65_536));
      },
    });
    expect((await edge.request({ host: "send.example.com", method: "POST", body: endless })).status).toBe(
      504,
    );
    endless.destroy();
  });

  test("a body that is watched keeps its length, and a client that pauses does no harm", async () => {
    const whole = await get("send-web", "/", { method: "POST", body: "text" });
    expect(whole.echo.headers["content-length"]).toBe("4");
    expect(whole.echo.headers["transfer-encoding"]).toBeUndefined();
    const body = new Readable({ read() {} });
    const reply = edge.request({ host: "send-web.example.com", method: "POST", body });
    body.push("one");
    setTimeout(() => {
      body.push("two");
      body.push(null);
    }, 1500);
    expect((await reply).echo.body).toBe("onetwo");
  });
});

describe("proxy-body-size", () => {
  const M = 1024 * 1024;
  let sent = 0;
  const send = async (name: string, bytes: number, isChunked: boolean) => {
    // A body that turns out too large breaks a request off that is on its way to the pod; it may arrive there after the
    // client has its answer. So requests are told apart by their targets, and not by how many have come so far.
    const path = `/?sent=${++sent}`;
    const body = Buffer.alloc(bytes, "x");
    const pieces = Array.from({ length: Math.ceil(bytes / 65_536) }, (_, at) =>
      body.subarray(at * 65_536, (at + 1) * 65_536),
    );
    const reply = await edge.request({
      host: `${name}.example.com`,
      method: "POST",
      path,
      body: isChunked ? Readable.from(pieces) : body,
    });
    return { reply, reached: edge.backend("web").targets.filter((target) => target === path).length };
  };

  test.each([
    ["body-10", 10, 200],
    ["body-10", 11, 413],
    ["body-1k", 1024, 200],
    ["body-1k", 1025, 413],
    ["body-default", M, 200],
    ["body-default", M + 1, 413],
    ["body-wrong", M + 1, 413],
    ["body-empty", M + 1, 413],
    ["body-0", 3 * M, 200],
  ] as const)("%s with %d bytes → %d", async (name, bytes, want) => {
    const measured = await send(name, bytes, false);
    expect(measured.reply.status).toBe(want);
    if (want === 200) expect(measured.reply.echo.bodyBytes).toBe(bytes);
    else {
      expect(measured.reached).toBe(0);
      expect(measured.reply.text).toContain("413 Request Entity Too Large");
    }
    const chunked = await send(name, bytes, true);
    expect(chunked.reply.status).toBe(want);
    if (want === 200) expect(chunked.reply.echo.bodyBytes).toBe(bytes);
  });

  test("Content-Length is looked at before redirects and checks; a chunked body after them", async () => {
    expect((await send("body-order", 11, false)).reply.status).toBe(413);
    expect((await send("body-guarded", 11, false)).reply.status).toBe(413);
    expect((await send("body-guarded", 11, true)).reply.status).toBe(403);
    expect((await send("body-order", 11, true)).reply.status).toBe(301);
  });
});

describe("backend-protocol", () => {
  test.each([
    ["https", "tls"],
    ["https-lower", "tls"],
    ["https-old", "tls"],
    ["auto", "web-0"],
    ["wrong-protocol", "web-0"],
  ] as const)("%s → %s", async (name, pod) => {
    expect((await get(name)).echo.pod).toBe(pod);
  });

  test("Host goes along", async () => {
    expect((await get("https")).echo.headers.host).toBe("https.example.com");
  });

  test.each(["http-to-tls", "https-old-off"])(
    "%s: plain HTTP to a pod that speaks TLS is refused by it",
    async (name) => {
      expect((await get(name)).status).toBeGreaterThanOrEqual(400);
    },
  );

  test("FCGI denies the location", async () => {
    expect((await get("fcgi")).status).toBe(503);
  });
});

test("service-upstream: the ClusterIP is the only endpoint", async () => {
  expect((await get("by-ip")).echo.pod).toBe("tls");
});

describe("upstream-vhost", () => {
  test.each([
    ["vhost", "internal.example.net:81"],
    ["plain", "plain.example.com"],
    ["vhost-wrong", "vhost-wrong.example.com"],
  ] as const)("%s → %s", async (name, host) => {
    const { echo } = await get(name);
    expect(echo.headers.host).toBe(host);
    expect(echo.headers["x-forwarded-host"]).toBe(`${name}.example.com`);
  });
});

describe("limit-rate", () => {
  const milliseconds = async (name: string) => {
    const since = performance.now();
    const { bytes } = await get(name);
    expect(bytes).toHaveLength(40 * 1024);
    return performance.now() - since;
  };

  test("with proxy-buffering: 20 KB at once, then 20 KB a second", async () => {
    expect(await milliseconds("rate")).toBeGreaterThan(800);
  });

  test("without proxy-buffering, or unreadable: no effect", async () => {
    expect(await milliseconds("rate-unbuffered")).toBeLessThan(10_000);
    expect(await milliseconds("rate-wrong")).toBeLessThan(10_000);
  });
});
