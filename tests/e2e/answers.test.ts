/** What an answer carries, what goes elsewhere with a request, and what is written down of it. */

import type { IncomingMessage } from "node:http";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;
let secure: Edge;
/** Copies that the mirror got since the test began, with their bodies. */
let copies: { readonly request: IncomingMessage; readonly body: string }[];
let onCopy: () => void = () => {};

const site = (service: string, name: string, annotations: Record<string, string> = {}) =>
  ingress(service, { host: `${name}.example.com`, annotations });

const object = (kind: string, name: string, data: Record<string, string>, namespace = "default") =>
  `---\n${JSON.stringify({ apiVersion: "v1", kind, metadata: { name, namespace }, data })}\n`;

const controller = (data: Record<string, string>) =>
  object("ConfigMap", "ingress-nginx-controller", data, "ingress-nginx");

const PLAIN = { "proxy-redirect-from": "http://pod.internal/", "proxy-redirect-to": "https://shop.example/" };

beforeAll(async () => {
  edge = await Edge.start({
    args: ["--access-log"],
    backends: {
      web: 1,
      copy: (request, response) => {
        let body = "";
        request.on("data", (chunk) => (body += chunk));
        request.on("end", () => {
          copies.push({ request, body });
          onCopy();
          response.statusCode = 500;
          response.end();
        });
      },
      // Sends back the headers that the query asks for: `?set-cookie=a&set-cookie=b`.
      teller: (request, response) => {
        const { searchParams } = new URL(request.url ?? "/", "http://pod");
        response.statusCode = Number(searchParams.get("status") ?? 200);
        for (const name of new Set(searchParams.keys()))
          if (name !== "status") response.setHeader(name, searchParams.getAll(name));
        response.end("told");
      },
    },
    manifests: [
      controller({ "global-allowed-response-headers": "X-Frame-Options,X-Two" }),
      object("ConfigMap", "headers", { "X-Frame-Options": "DENY", "x-two": "$remote_addr" }),
      object("ConfigMap", "not-allowed", { "X-Frame-Options": "DENY", Server: "mine" }),
      object("ConfigMap", "broken", { "X-Two": "a\r\nSet-Cookie: b=c" }),
      object("ConfigMap", "foreign", { "X-Two": "1" }, "other"),
      site("teller", "headers", {
        "custom-headers": "default/headers",
        "denylist-source-range": "192.0.2.0/24",
      }),
      ...["not-allowed", "broken", "missing", "other/foreign", "a b"].map((name, at) =>
        site("teller", `headers-${at}`, { "custom-headers": name }),
      ),
      site("teller", "headers-empty", { "custom-headers": "" }),

      site("teller", "domain", { "proxy-cookie-domain": "pod.internal shop.example" }),
      site("teller", "path", { "proxy-cookie-path": "/app /" }),
      site("teller", "cookie-both", { "proxy-cookie-domain": "a.b c.d", "proxy-cookie-path": "/x /y" }),
      site("teller", "cookie-off", { "proxy-cookie-domain": "off", "proxy-cookie-path": "off" }),
      site("teller", "cookie-wrong", { "proxy-cookie-domain": "one", "proxy-cookie-path": "a b c" }),
      site("teller", "redirect", PLAIN),
      site("teller", "redirect-slash", {
        "proxy-redirect-from": "http://pod.internal",
        "proxy-redirect-to": "/x",
      }),
      site("teller", "redirect-relative", {
        "proxy-redirect-from": "http://pod.internal",
        "proxy-redirect-to": "/x",
        "relative-redirects": "true",
      }),
      site("teller", "redirect-off", { ...PLAIN, "proxy-redirect-from": "off" }),
      site("teller", "redirect-default", { ...PLAIN, "proxy-redirect-from": "default" }),
      site("teller", "redirect-wrong", { ...PLAIN, "proxy-redirect-from": "$scheme://x" }),

      site("web", "mirror", { "mirror-target": "http://copy.default.svc.cluster.local$request_uri" }),
      site("web", "mirror-fixed", {
        "mirror-target": "http://copy.default.svc/fixed?of=$host",
        "mirror-host": "mirror.example.net",
        "mirror-request-body": "off",
      }),
      site("web", "mirror-wrong", { "mirror-target": "copy.default.svc" }),
      site("web", "mirror-dead", { "mirror-target": "http://127.0.0.1:9/x" }),
      site("web", "mirror-guarded", {
        "mirror-target": "http://copy.default.svc/x",
        "allowlist-source-range": "192.0.2.0/24",
      }),

      site("web", "traced", { "enable-opentelemetry": "true", "opentelemetry-operation-name": "shop" }),
      site("web", "traced-alone", {
        "enable-opentelemetry": "true",
        "opentelemetry-trust-incoming-span": "false",
      }),
      site("web", "traced-off", { "enable-opentelemetry": "false" }),
      site("web", "traced-wrong", { "enable-opentelemetry": "perhaps" }),

      site("web", "logged"),
      site("web", "unlogged", { "enable-access-log": "false" }),
      site("web", "log-wrong", { "enable-access-log": "no" }),
    ].join(""),
  });
  secure = await Edge.start({
    args: ["--protocol", "https"],
    backends: {
      teller: (_request, response) => {
        response.setHeader("Strict-Transport-Security", "max-age=1");
        response.end();
      },
    },
    manifests: [
      ingress("teller", { host: "tls.example.com", tls: [{ hosts: ["tls.example.com"] }] }),
      ingress("teller", { host: "plain.example.com" }),
      ingress("teller", {
        host: "denied.example.com",
        tls: [{ hosts: ["denied.example.com"] }],
        annotations: { "allowlist-source-range": "192.0.2.0/24" },
      }),
    ].join(""),
  });
});

beforeEach(() => {
  copies = [];
});

afterAll(async () => {
  await edge.stop();
  await secure.stop();
});

const get = (name: string, path = "/", headers: Record<string, string> = {}) =>
  edge.request({ host: `${name}.example.com`, path, headers, clientAddress: "203.0.113.7" });

describe("custom-headers", () => {
  test("on every answer, literal, in place of the pod's own", async () => {
    const reply = await get("headers", "/?x-frame-options=ALLOW");
    expect(reply.headers).toMatchObject({ "x-frame-options": "DENY", "x-two": "$remote_addr" });
    const refused = await edge.request({ host: "headers.example.com", clientAddress: "192.0.2.1" });
    expect([refused.status, refused.headers["x-frame-options"]]).toEqual([403, "DENY"]);
  });

  test.each([0, 1, 2, 3, 4])("unusable map %d denies the location", async (at) => {
    expect((await get(`headers-${at}`)).status).toBe(503);
  });

  test("empty is absent", async () => {
    expect((await get("headers-empty")).status).toBe(200);
  });
});

describe("proxy-cookie-domain, proxy-cookie-path", () => {
  test.each([
    ["domain", "a=b; Domain=pod.internal; Path=/", "a=b; Domain=shop.example; Path=/"],
    ["domain", "a=b; domain=.POD.internal", "a=b; domain=.shop.example"],
    ["domain", "a=b; Domain=x.pod.internal", "a=b; Domain=x.pod.internal"],
    ["domain", "domain=pod.internal", "domain=pod.internal"],
    ["path", "a=b; Path=/app/x; Secure", "a=b; Path=//x; Secure"],
    ["path", "a=b; Path=/apple", "a=b; Path=/le"],
    ["path", "a=b; Path=/App", "a=b; Path=/App"],
    ["cookie-both", "a=b; Path=/x; Domain=a.b", "a=b; Path=/y; Domain=c.d"],
    ["cookie-off", "a=b; Path=/x; Domain=a.b", "a=b; Path=/x; Domain=a.b"],
    ["cookie-wrong", "a=b; Path=/x; Domain=a.b", "a=b; Path=/x; Domain=a.b"],
  ])("%s: %s → %s", async (name, given, want) => {
    const reply = await get(name, `/?set-cookie=${encodeURIComponent(given)}&set-cookie=second%3D1`);
    expect(reply.cookies).toEqual([want, "second=1"]);
  });
});

describe("proxy-redirect-from, proxy-redirect-to", () => {
  const location = async (name: string, given: string, status = 302) =>
    (await get(name, `/?status=${status}&location=${encodeURIComponent(given)}`)).headers.location;
  test.each([
    ["redirect", "http://pod.internal/a?b", "https://shop.example/a?b"],
    ["redirect", "HTTP://pod.internal/a", "HTTP://pod.internal/a"],
    ["redirect", "/relative", "/relative"],
    ["redirect-slash", "http://pod.internal/a", "http://redirect-slash.example.com/x/a"],
    ["redirect-slash", "/relative", "/relative"],
    ["redirect-relative", "http://pod.internal/a", "/x/a"],
    ["redirect-off", "http://pod.internal/a", "http://pod.internal/a"],
    ["redirect-default", "http://pod.internal/a", "http://pod.internal/a"],
    ["redirect-wrong", "http://pod.internal/a", "http://pod.internal/a"],
  ])("%s: %s → %s", async (name, given, want) => {
    expect(await location(name, given)).toBe(want);
  });

  test("whatever the status, and Refresh too", async () => {
    expect(await location("redirect", "http://pod.internal/made", 201)).toBe("https://shop.example/made");
    const reply = await get("redirect", `/?refresh=${encodeURIComponent("5; url=http://pod.internal/z")}`);
    expect(reply.headers.refresh).toBe("5; url=https://shop.example/z");
  });
});

describe("mirror-target", () => {
  /** Sends a request and waits for its copy. */
  const mirrored = async (name: string, path: string) => {
    const copied = new Promise<void>((resolve) => (onCopy = resolve));
    const reply = await edge.request({
      host: `${name}.example.com`,
      method: "POST",
      path,
      body: "text",
      clientAddress: "203.0.113.7",
    });
    await copied;
    return { reply, copy: copies[0] };
  };

  test("gets method, path, headers and body; the client sees the pod's answer alone", async () => {
    const { reply, copy } = await mirrored("mirror", "/a%20b?c=d");
    expect([reply.status, reply.echo.body]).toEqual([200, "text"]);
    expect(reply.echo.headers["content-length"]).toBe("4");
    expect([copy?.request.method, copy?.request.url, copy?.body]).toEqual(["POST", "/a%20b?c=d", "text"]);
    expect(copy?.request.headers).toMatchObject({
      host: "copy.default.svc.cluster.local",
      "x-forwarded-for": "203.0.113.7",
    });
  });

  test("mirror-host, mirror-request-body", async () => {
    const { reply, copy } = await mirrored("mirror-fixed", "/a");
    expect(reply.echo.body).toBe("text");
    expect([copy?.request.url, copy?.body]).toEqual(["/fixed?of=mirror-fixed.example.com", ""]);
    expect(copy?.request.headers.host).toBe("mirror.example.net");
  });

  test.each(["mirror-wrong", "mirror-dead"])("%s: the request is served all the same", async (name) => {
    expect((await get(name)).status).toBe(200);
    expect(copies).toEqual([]);
  });

  test("a request that is refused is not copied", async () => {
    expect((await get("mirror-guarded")).status).toBe(403);
    await mirrored("mirror", "/after");
    expect(copies.map(({ request }) => request.url)).toEqual(["/after"]);
  });
});

describe("enable-opentelemetry", () => {
  const GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const traceparent = async (name: string, given?: string) =>
    (await get(name, "/", given === undefined ? {} : { traceparent: given, tracestate: "a=b" })).echo.headers;

  test("a context of our own, or the client's", async () => {
    expect((await traceparent("traced")).traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    expect(await traceparent("traced", GIVEN)).toMatchObject({ traceparent: GIVEN, tracestate: "a=b" });
    expect((await traceparent("traced", "nonsense")).traceparent).toMatch(/^00-[0-9a-f]{32}-/);
  });

  test("opentelemetry-trust-incoming-span: false", async () => {
    const headers = await traceparent("traced-alone", GIVEN);
    expect(headers.traceparent).toMatch(/^00-[0-9a-f]{32}-/);
    expect(headers.traceparent).not.toBe(GIVEN);
    expect(headers.tracestate).toBeUndefined();
  });

  test.each(["traced-off", "traced-wrong"])("%s: nothing is made, and nothing taken away", async (name) => {
    expect((await traceparent(name)).traceparent).toBeUndefined();
    expect((await traceparent(name, GIVEN)).traceparent).toBe(GIVEN);
  });
});

describe("enable-access-log", () => {
  const lines = () =>
    edge.dev.stderr.flatMap((line) => {
      const json = /\{"time".*\}$/.exec(line)?.[0];
      return json === undefined ? [] : [JSON.parse(json) as Record<string, unknown>];
    });

  test("one line of JSON for each answer, and none where it is switched off", async () => {
    const from = edge.dev.stderr.length;
    await get("unlogged", "/never");
    await get("nowhere", "/unknown");
    await get("log-wrong", "/wrong");
    await edge.request({
      host: "Logged.example.com",
      method: "DELETE",
      path: "/a%20b?c",
      clientAddress: "203.0.113.7",
      headers: { "User-Agent": 'me "quoted"', "X-Request-ID": "id-1" },
    });
    await edge.dev.waitFor(edge.dev.stderr, /id-1/, from);
    const found = lines();
    expect(found.find(({ requestId }) => requestId === "id-1")).toMatchObject({
      client: "203.0.113.7",
      method: "DELETE",
      scheme: "http",
      uri: "/a%20b?c",
      status: 200,
      ingress: "default/web-logged-example-com",
      backend: "default/web:80",
      endpoint: `127.0.0.1:${edge.backend("web").port}`,
      userAgent: 'me "quoted"',
    });
    expect(found.filter(({ uri }) => uri === "/never")).toEqual([]);
    expect(found.find(({ uri }) => uri === "/unknown")).toMatchObject({
      status: 404,
      host: "nowhere.example.com",
    });
    expect(found.filter(({ uri }) => uri === "/wrong")).toHaveLength(1);
  });

  test("disable-access-log of the ConfigMap", async () => {
    const from = edge.dev.stderr.length;
    const write = (data: Record<string, string>) =>
      edge.apply({ "manifests.yaml": [controller(data), site("web", "logged")].join("") });
    await write({ "disable-access-log": "true" });
    await get("logged", "/silent");
    await write({});
    await get("logged", "/again");
    await edge.dev.waitFor(edge.dev.stderr, /\/again/, from);
    expect(lines().filter(({ uri }) => uri === "/silent")).toEqual([]);
  });
});

test("Strict-Transport-Security over https, in place of the pod's, where the host has a TLS section", async () => {
  const hsts = async (host: string) =>
    (await secure.request({ host, clientAddress: "203.0.113.7" })).headers["strict-transport-security"];
  expect(await hsts("tls.example.com")).toBe("max-age=31536000; includeSubDomains");
  expect(await hsts("denied.example.com")).toBe("max-age=31536000; includeSubDomains");
  expect(await hsts("plain.example.com")).toBe("max-age=1");
  const settings = (data: Record<string, string>) => secure.apply({ "settings.yaml": controller(data) });
  await settings({ "hsts-max-age": "600", "hsts-include-subdomains": "false", "hsts-preload": "true" });
  expect(await hsts("tls.example.com")).toBe("max-age=600; preload");
  await settings({ hsts: "false" });
  expect(await hsts("tls.example.com")).toBe("max-age=1");
});
