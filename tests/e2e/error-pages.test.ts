/** Errors that are shown through a service: what it is asked, what the client gets, and that no refusal becomes a success. */

import type { IncomingMessage } from "node:http";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;
let asked: IncomingMessage[];

const site = (service: string, name: string, annotations: Record<string, string>) =>
  ingress(service, { host: `${name}.example.com`, annotations });

const settings = (data: Record<string, string>) =>
  `---\n${JSON.stringify({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "ingress-nginx-controller", namespace: "ingress-nginx" },
    data,
  })}\n`;

const PAGES = { "default-backend": "pages" };

beforeAll(async () => {
  edge = await Edge.start({
    backends: {
      // Answers with the status in its path.
      pod: (request, response) => {
        response.statusCode = Number(request.url?.slice(1, 4)) || 200;
        response.setHeader("X-Pod", "1");
        response.end("pod");
      },
      pages: (request, response) => {
        asked.push(request);
        response.statusCode = Number(request.headers["x-code"]) === 404 ? 404 : 200;
        response.setHeader("X-Page", "1");
        response.end(`page for ${request.headers["x-code"]}`);
      },
      auth: (request, response) => {
        response.statusCode = Number(request.url?.slice(1));
        response.end();
      },
    },
    manifests: [
      site("pod", "shown", { ...PAGES, "custom-http-errors": "404, 500" }),
      site("pod", "passed", {
        ...PAGES,
        "custom-http-errors": "404,503",
        "disable-proxy-intercept-errors": "true",
      }),
      site("pod", "wrong", { ...PAGES, "custom-http-errors": "404,huge" }),
      site("pod", "empty", { ...PAGES, "custom-http-errors": "" }),
      site("pod", "no-service", { "default-backend": "nobody", "custom-http-errors": "404" }),
      site("pod", "no-backend", { "custom-http-errors": "404" }),
      site("pod", "own-errors", {
        ...PAGES,
        "custom-http-errors": "413,503",
        "proxy-body-size": "10",
        "enable-cors": "true",
      }),
      site("nothing", "gone", { "custom-http-errors": "503", ...PAGES }),
      site("nothing", "gone-plain", PAGES),
      site("nothing", "gone-none", { "default-backend": "nobody" }),
      site("nothing", "gone-passed", {
        ...PAGES,
        "custom-http-errors": "503",
        "disable-proxy-intercept-errors": "true",
      }),
      site("pod", "list", {
        ...PAGES,
        "custom-http-errors": "403",
        "allowlist-source-range": "192.0.2.0/24",
      }),
      ...["401", "403", "500"].map((status) =>
        site("pod", `auth-${status}`, {
          ...PAGES,
          "custom-http-errors": "401,403,500",
          "auth-url": `http://auth.default.svc/${status}`,
        }),
      ),
      site("pod", "signin", {
        ...PAGES,
        "custom-http-errors": "401",
        "auth-url": "http://auth.default.svc/401",
        "auth-signin": "https://sign.example/in",
      }),
      site("pod", "by-default", PAGES),
    ].join(""),
  });
});

beforeEach(() => {
  asked = [];
});
afterAll(async () => edge.stop());

const get = (name: string, path = "/", headers: Record<string, string> = {}) =>
  edge.request({ host: `${name}.example.com`, path, headers });

describe("custom-http-errors with default-backend", () => {
  test.each([
    ["/200", 200, "pod"],
    ["/404", 404, "page for 404"],
    ["/500", 200, "page for 500"],
    ["/503", 503, "pod"],
  ] as const)("%s → %d %s", async (path, status, text) => {
    const reply = await get("shown", path);
    expect([reply.status, reply.text]).toEqual([status, text]);
    expect(reply.headers["x-pod"]).toBe(text === "pod" ? "1" : undefined);
  });

  test("the service learns what it was", async () => {
    await edge.request({
      host: "shown.example.com",
      method: "PUT",
      path: "/404/x?a=b",
      headers: { Accept: "application/json", "X-Request-ID": "me" },
      body: "text",
    });
    const [question] = asked;
    expect([question?.method, question?.url]).toEqual(["PUT", "/?a=b"]);
    expect(question?.headers).toMatchObject({
      host: "shown.example.com",
      "x-code": "404",
      "x-format": "application/json",
      "x-original-uri": "/404/x?a=b",
      "x-namespace": "default",
      "x-ingress-name": "pod-shown-example-com",
      "x-service-name": "pod",
      "x-service-port": "80",
      "x-request-id": "me",
    });
  });

  test.each([
    ["passed", "/404", 404, "pod"],
    ["wrong", "/404", 404, "pod"],
    ["empty", "/404", 404, "pod"],
  ] as const)("%s%s → %d %s", async (name, path, status, text) => {
    const reply = await get(name, path);
    expect([reply.status, reply.text]).toEqual([status, text]);
    expect(asked).toHaveLength(0);
  });

  test.each(["no-service", "no-backend"])("%s: without a service there is a plain 404", async (name) => {
    const reply = await get(name, "/404");
    expect(reply.status).toBe(404);
    expect(reply.text).toContain("404 Not Found");
  });
});

describe("errors of the edge itself", () => {
  test("413 is shown through the service, without CORS headers", async () => {
    const before = edge.backend("pod").requests;
    const reply = await edge.request({
      host: "own-errors.example.com",
      method: "POST",
      body: "more than ten bytes",
      headers: { Origin: "https://a.example" },
    });
    expect([reply.status, reply.text]).toEqual([200, "page for 413"]);
    expect(reply.headers["access-control-allow-origin"]).toBeUndefined();
    expect(edge.backend("pod").requests).toBe(before);
  });

  test.each([
    ["gone", "page for 503"],
    ["gone-plain", "page for 503"],
    ["gone-passed", "page for 503"],
  ] as const)("%s: a backend without endpoints", async (name, text) => {
    const reply = await get(name, "/x/y?z");
    expect([reply.status, reply.text]).toEqual([200, text]);
    expect(asked[0]?.headers).toMatchObject({
      "x-code": "503",
      "x-service-name": "nothing",
      "x-service-port": "80",
    });
  });

  test("default-backend alone gets the request of a dead backend with its own path", async () => {
    await get("gone-plain", "/x/y?z");
    expect(asked[0]?.url).toBe("/x/y?z");
  });

  test("a default-backend that does not exist helps nobody", async () => {
    expect((await get("gone-none")).status).toBe(503);
  });
});

describe("a refusal never becomes a success", () => {
  test.each([
    ["list", 403],
    ["auth-401", 401],
    ["auth-403", 403],
    ["auth-500", 500],
  ] as const)("%s keeps its status, with the service's page", async (name, status) => {
    const before = edge.backend("pod").requests;
    const reply = await get(name);
    expect(reply.status).toBe(status);
    expect(reply.text).toBe(`page for ${status}`);
    expect(edge.backend("pod").requests).toBe(before);
  });

  test("auth-signin comes before the page", async () => {
    expect((await get("signin", "/")).headers.location).toBe(
      "https://sign.example/in?rd=http://signin.example.com%2F",
    );
  });

  test("statuses of the pod are the service's to decide", async () => {
    edge.backend("auth").onRequest = (_request, response) => response.end();
    const reply = await get("auth-401", "/403");
    expect([reply.status, reply.text]).toEqual([200, "page for 403"]);
  });
});

test("custom-http-errors of the ConfigMap count where no annotation does; an update while running", async () => {
  expect((await get("by-default", "/502")).text).toBe("pod");
  await edge.apply({ "settings.yaml": settings({ "custom-http-errors": "502" }) });
  expect((await get("by-default", "/502")).text).toBe("page for 502");
  expect((await get("shown", "/502")).text).toBe("pod");
  await edge.apply({
    "settings.yaml": settings({ "custom-http-errors": "502", "disable-proxy-intercept-errors": "true" }),
  });
  expect((await get("by-default", "/502")).text).toBe("pod");
});
