/** CORS through the running edge: who answers a preflight, and which headers stand on which answers, to the letter. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Edge, ingress, type Reply } from "./support/edge.ts";

let edge: Edge;

const METHODS = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS =
  "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";

const site = (name: string, annotations: Record<string, string>) =>
  ingress("web", { host: `${name}.example.com`, annotations });

beforeAll(async () => {
  edge = await Edge.start({
    backends: {
      web: (request, response) => {
        response.setHeader("Access-Control-Allow-Origin", "https://of-the-pod.example");
        response.setHeader("Access-Control-Allow-Methods", "TRACE");
        response.setHeader("Access-Control-Expose-Headers", "X-Pod");
        response.end(`pod ${request.method}`);
      },
    },
    manifests: [
      site("any", { "enable-cors": "true" }),
      site("off", { "enable-cors": "false", "cors-allow-origin": "*" }),
      site("unreadable", { "enable-cors": "yes" }),
      site("old", { "ingress.kubernetes.io/enable-cors": "true" }),
      site("some", {
        "enable-cors": "true",
        "cors-allow-origin":
          "https://a.example, https://*.b.example:8443, http://Mixed.example, null, nonsense",
        "cors-allow-methods": "GET, OPTIONS",
        "cors-allow-headers": "X-One, X-Two",
        "cors-expose-headers": "X-Three",
        "cors-allow-credentials": "false",
        "cors-max-age": "600",
      }),
      site("blank", { "enable-cors": "true", "cors-allow-origin": "", "cors-max-age": "" }),
      site("no-origin-left", { "enable-cors": "true", "cors-allow-origin": "nonsense, a b" }),
      site("wrong", {
        "enable-cors": "true",
        "cors-allow-origin": "https://a.example",
        "cors-allow-credentials": "maybe",
        "cors-max-age": "1h",
      }),
      site("guarded", {
        "enable-cors": "true",
        "cors-allow-origin": "https://a.example",
        "allowlist-source-range": "192.0.2.0/24",
      }),
      // Two Ingresses of one host: each path has its own.
      ingress("web", {
        host: "two.example.com",
        name: "two-with",
        annotations: { "enable-cors": "true" },
        paths: { "/with": "Prefix" },
      }),
      ingress("web", { host: "two.example.com", name: "two-without", paths: { "/without": "Prefix" } }),
    ].join(""),
  });
});

afterAll(async () => edge.stop());

const corsHeaders = ({ headers }: Reply) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith("access-control-")));

const ask = (host: string, method: string, origin?: string, path = "/") =>
  edge.request({
    host: `${host}.example.com`,
    method,
    path,
    headers: origin === undefined ? {} : { Origin: origin },
  });

const OF_POD = {
  "access-control-allow-origin": "https://of-the-pod.example",
  "access-control-allow-methods": "TRACE",
  "access-control-expose-headers": "X-Pod",
};

describe("enable-cors with its defaults", () => {
  const want = {
    "access-control-allow-origin": "*",
    "access-control-allow-credentials": "true",
    "access-control-allow-methods": METHODS,
    "access-control-allow-headers": HEADERS,
    "access-control-max-age": "1728000",
  };

  test.each([["https://any.example"], [undefined]])(
    "OPTIONS from %s is answered by the edge",
    async (origin) => {
      const before = edge.backend("web").requests;
      const reply = await ask("any", "OPTIONS", origin);
      expect(reply.status).toBe(204);
      expect(reply.text).toBe("");
      expect(corsHeaders(reply)).toEqual(want);
      expect(reply.headers.vary).toBeUndefined();
      expect(edge.backend("web").requests).toBe(before);
    },
  );

  test("other methods reach the pod, and the headers replace the pod's own", async () => {
    const reply = await ask("any", "GET", "https://any.example");
    expect(reply.text).toBe("pod GET");
    // The one that the edge does not set stays the pod's.
    expect(corsHeaders(reply)).toEqual({ ...want, "access-control-expose-headers": "X-Pod" });
  });

  test("the annotation under its old prefix", async () => {
    expect((await ask("old", "OPTIONS", "https://x.example")).status).toBe(204);
  });

  test("blank values are absent ones", async () => {
    expect(corsHeaders(await ask("blank", "OPTIONS", "https://x.example"))).toEqual(want);
  });

  test.each(["off", "unreadable"])("%s: the pod answers OPTIONS, and its headers pass", async (host) => {
    const reply = await ask(host, "OPTIONS", "https://x.example");
    expect(reply.text).toBe("pod OPTIONS");
    expect(corsHeaders(reply)).toEqual(OF_POD);
  });
});

describe("cors-allow-origin and the others", () => {
  test.each([
    ["https://a.example", true],
    ["HTTPS://A.Example", true],
    ["https://x.b.example:8443", true],
    ["http://mixed.example", true],
    ["null", true],
    ["http://a.example", false],
    ["https://a.example:443", false],
    ["https://a.example.evil", false],
    ["xhttps://a.example", false],
    ["https://x.b.example", false],
    ["https://x.y.b.example:8443", false],
    ["https://b.example:8443", false],
    ["nonsense", false],
    [undefined, false],
  ] as const)("%s → %s", async (origin, isAllowed) => {
    const preflight = await ask("some", "OPTIONS", origin);
    const answer = await ask("some", "GET", origin);
    if (!isAllowed) {
      expect(preflight.text).toBe("pod OPTIONS");
      expect(corsHeaders(preflight)).toEqual(OF_POD);
      expect(corsHeaders(answer)).toEqual(OF_POD);
      return;
    }
    const want = {
      "access-control-allow-origin": origin,
      "access-control-allow-methods": "GET, OPTIONS",
      "access-control-allow-headers": "X-One, X-Two",
      "access-control-expose-headers": "X-Three",
      "access-control-max-age": "600",
    };
    expect(preflight.status).toBe(204);
    expect(corsHeaders(preflight)).toEqual(want);
    expect(corsHeaders(answer)).toEqual(want);
  });

  test("no origin that can be read: none is allowed", async () => {
    expect(corsHeaders(await ask("no-origin-left", "GET", "nonsense"))).toEqual(OF_POD);
    expect((await ask("no-origin-left", "OPTIONS", "https://a.example")).text).toBe("pod OPTIONS");
  });

  test("credentials that cannot be read are none; a wrong age is the default one", async () => {
    const headers = corsHeaders(await ask("wrong", "OPTIONS", "https://a.example"));
    expect(headers["access-control-allow-credentials"]).toBeUndefined();
    expect(headers["access-control-max-age"]).toBe("1728000");
  });
});

test("a preflight asks for no access; a refusal carries the headers", async () => {
  expect((await ask("guarded", "OPTIONS", "https://a.example")).status).toBe(204);
  const refused = await ask("guarded", "GET", "https://a.example");
  expect(refused.status).toBe(403);
  expect(refused.headers["access-control-allow-origin"]).toBe("https://a.example");
});

test("two Ingresses of one host: each path as its own Ingress says", async () => {
  expect((await ask("two", "OPTIONS", "https://a.example", "/with")).status).toBe(204);
  expect((await ask("two", "OPTIONS", "https://a.example", "/without")).text).toBe("pod OPTIONS");
});

test("an update while running: switched on, changed, switched off", async () => {
  const write = (annotations: Record<string, string>) =>
    edge.apply({ "moving.yaml": site("moving", annotations) });
  await write({});
  expect((await ask("moving", "OPTIONS")).text).toBe("pod OPTIONS");
  await write({ "enable-cors": "true" });
  expect((await ask("moving", "OPTIONS")).status).toBe(204);
  await write({ "enable-cors": "true", "cors-allow-origin": "https://only.example" });
  expect((await ask("moving", "OPTIONS")).text).toBe("pod OPTIONS");
  expect((await ask("moving", "OPTIONS", "https://only.example")).status).toBe(204);
});
