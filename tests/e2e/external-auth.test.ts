/** An auth service beside the edge: what it is asked, what its answer means, what reaches pod and client. */

import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;
/** Stands outside the cluster, on an address. */
let outside: Server;
/** What the service was asked since the test began. */
let asked: IncomingMessage[];

const site = (name: string, annotations: Record<string, string>, more: Parameters<typeof ingress>[1] = {}) =>
  ingress("web", { host: `${name}.example.com`, annotations, ...more });

const SERVICE = "http://auth.default.svc.cluster.local";

const configMap = (name: string, data: Record<string, string>, namespace = "default") =>
  `---\n${JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace }, data })}\n`;

beforeAll(async () => {
  outside = createServer((request, response) => {
    asked.push(request);
    response.statusCode = 200;
    response.end();
  });
  await new Promise<void>((resolve) => outside.listen(0, "127.0.0.1", resolve));
  const address = `http://127.0.0.1:${(outside.address() as AddressInfo).port}`;
  edge = await Edge.start({
    backends: {
      web: 1,
      // Answers with the status in its path; its headers are fixed.
      auth: (request, response) => {
        asked.push(request);
        const { pathname } = new URL(request.url ?? "/", "http://auth");
        if (pathname === "/silent") return;
        if (pathname === "/dead") return void request.socket.destroy();
        if (pathname === "/by-user") {
          response.statusCode = request.headers["x-user"] === "right" ? 200 : 401;
          return void response.end();
        }
        response.statusCode = Number(pathname.slice(1)) || 200;
        response.setHeader("X-Auth-User", "alice");
        response.setHeader("X-Auth-Other", "not for the pod");
        if (pathname === "/private") response.setHeader("Cache-Control", "private");
        if (request.url?.includes("cookie"))
          response.setHeader("Set-Cookie", ["session=1", "more=2; Path=/"]);
        if (response.statusCode === 401) response.setHeader("WWW-Authenticate", 'Bearer realm="x"');
        if (response.statusCode === 302) response.setHeader("Location", "https://elsewhere.example");
        response.end("the service's own body");
      },
      failing: (_request, response) => {
        response.statusCode = 500;
        response.end("pod");
      },
      refusing: (_request, response) => {
        response.statusCode = 401;
        response.end("pod");
      },
    },
    manifests: [
      ...[200, 204, 299, 302, 401, 403, 404, 500].map((status) =>
        site(`s${status}`, {
          "auth-url": `${SERVICE}/${status}`,
          "auth-response-headers": "X-Auth-User, X-Missing",
        }),
      ),
      site("short", { "auth-url": "http://auth.default.svc/200" }),
      site("port", { "auth-url": "http://auth.default.svc.cluster.local:80/200" }),
      site("no-service", { "auth-url": "http://nothing.default.svc/200" }),
      site("address", { "auth-url": `${address}/check?u=$arg_u&h=$host` }),
      site("dead", { "auth-url": `${SERVICE}/dead` }),
      site("silent", { "auth-url": `${SERVICE}/silent`, "proxy-read-timeout": "1" }),
      site("unreadable", { "auth-url": "http://bad..host/200" }),
      site("snippet", { "auth-url": "http://auth.default.svc/200;}" }),
      site("variable", { "auth-url": "http://auth.default.svc/$document_root" }),
      site("empty", { "auth-url": "" }),
      site("method", { "auth-url": `${SERVICE}/200`, "auth-method": "POST" }),
      site("wrong-method", { "auth-url": `${SERVICE}/200`, "auth-method": "GET;" }),
      site("request-redirect", { "auth-url": `${SERVICE}/200`, "auth-request-redirect": "$host/$arg_next" }),
      site("signin", {
        "auth-url": `${SERVICE}/401?cookie`,
        "auth-signin": "http://auth.example/auth/start",
      }),
      site("signin-query", {
        "auth-url": `${SERVICE}/401`,
        "auth-signin": "https://auth.example/start?a=b",
        "auth-signin-redirect-param": "back",
        "enable-cors": "true",
      }),
      site("signin-rd", {
        "auth-url": `${SERVICE}/401`,
        "auth-signin": "https://auth.example/start?rd=$scheme",
      }),
      site("signin-host", {
        "auth-url": `${SERVICE}/401`,
        "auth-signin": "https://$host/oauth2/start?rd=$escaped_request_uri",
      }),
      site("signin-403", { "auth-url": `${SERVICE}/403`, "auth-signin": "https://auth.example/start" }),
      site("signin-alone", { "auth-signin": "https://auth.example/start" }),
      ingress("refusing", {
        host: "signin-pod.example.com",
        annotations: { "auth-url": `${SERVICE}/200`, "auth-signin": "https://auth.example/start" },
      }),
      site("cookie", { "auth-url": `${SERVICE}/200?cookie` }),
      ingress("failing", {
        host: "cookie-error.example.com",
        annotations: { "auth-url": `${SERVICE}/200?cookie` },
      }),
      ingress("failing", {
        host: "cookie-always.example.com",
        annotations: { "auth-url": `${SERVICE}/200?cookie`, "auth-always-set-cookie": "true" },
      }),
      site("cached", { "auth-url": `${SERVICE}/by-user`, "auth-cache-key": "$http_x_user" }),
      site("cached-other", { "auth-url": `${SERVICE}/by-user`, "auth-cache-key": "$http_x_user" }),
      site("cached-200", {
        "auth-url": `${SERVICE}/by-user`,
        "auth-cache-key": "$http_x_user",
        "auth-cache-duration": "200 10m",
      }),
      site("cached-cookie", { "auth-url": `${SERVICE}/200?cookie`, "auth-cache-key": "all" }),
      site("cached-private", { "auth-url": `${SERVICE}/private`, "auth-cache-key": "all" }),
      configMap("for-auth", { "X-Tenant": "blue", "X-Sent-From": "fairlead" }),
      configMap("for-auth-bad", { "X Tenant": "blue" }),
      configMap("for-auth", { "X-Tenant": "foreign" }, "other"),
      site("set-headers", { "auth-url": `${SERVICE}/200`, "auth-proxy-set-headers": "default/for-auth" }),
      site("set-headers-missing", { "auth-url": `${SERVICE}/200`, "auth-proxy-set-headers": "nothing" }),
      site("set-headers-bad", { "auth-url": `${SERVICE}/200`, "auth-proxy-set-headers": "for-auth-bad" }),
      site("set-headers-foreign", {
        "auth-url": `${SERVICE}/200`,
        "auth-proxy-set-headers": "other/for-auth",
      }),
      // The service is reached through this very edge.
      site("self", { "auth-url": "https://$host/oauth2/auth", "auth-response-headers": "X-Auth-User" }),
      ingress("auth", {
        host: "self.example.com",
        name: "self-oauth2",
        paths: { "/oauth2": "Prefix" },
        annotations: { "rewrite-target": "/200" },
      }),
      site("by-name", { "auth-url": "https://idp.example.com/401" }),
      ingress("auth", { host: "idp.example.com" }),
      site("loop", { "auth-url": "https://$host/auth" }),
    ].join(""),
  });
});

beforeEach(() => {
  asked = [];
});

afterAll(async () => {
  await edge.stop();
  outside.close();
});

const get = (name: string, path = "/", headers: Record<string, string> = {}) =>
  edge.request({ host: `${name}.example.com`, path, headers, clientAddress: "203.0.113.7" });

describe("auth-url: what its answer means", () => {
  test.each([
    ["s200", 200],
    ["s204", 200],
    ["s299", 200],
    ["s302", 500],
    ["s401", 401],
    ["s403", 403],
    ["s404", 500],
    ["s500", 500],
    ["dead", 500],
    ["silent", 500],
    ["short", 200],
    ["port", 200],
    ["no-service", 500],
    ["unreadable", 503],
    ["snippet", 503],
    ["variable", 503],
    ["empty", 200],
  ] as const)("%s → %d", async (name, status) => {
    const before = edge.backend("web").requests;
    const reply = await get(name);
    expect(reply.status).toBe(status);
    expect(reply.text).not.toContain("the service's own body");
    expect(edge.backend("web").requests - before).toBe(status === 200 ? 1 : 0);
  });

  test("of a 401 the client sees WWW-Authenticate, and no other header of the service", async () => {
    const reply = await get("s401");
    expect(reply.headers["www-authenticate"]).toBe('Bearer realm="x"');
    expect(reply.headers["x-auth-user"]).toBeUndefined();
    expect(reply.text).toContain("401 Authorization Required");
  });
});

describe("what the service is asked", () => {
  test("the client's headers and nginx's own, without the body", async () => {
    const reply = await edge.request({
      host: "S200.example.com:8080",
      method: "POST",
      path: "/a%20b?c=d",
      body: "secret",
      clientAddress: "203.0.113.7",
      headers: {
        Authorization: "Bearer t",
        Cookie: "a=b",
        "X-Forwarded-For": "198.51.100.1",
        "X-Forwarded-Proto": "https",
        "X-Real-IP": "198.51.100.1",
        Proxy: "evil",
        "X-Original-URL": "http://forged/",
      },
    });
    expect(reply.status).toBe(200);
    expect(reply.echo.body).toBe("secret");
    const [question] = asked;
    expect(question?.method).toBe("GET");
    expect(question?.url).toBe("/200");
    expect(question?.headers).toMatchObject({
      authorization: "Bearer t",
      cookie: "a=b",
      "x-original-url": "http://S200.example.com:8080/a%20b?c=d",
      "x-original-method": "POST",
      "x-sent-from": "nginx-ingress-controller",
      "x-real-ip": "203.0.113.7",
      "x-forwarded-for": "203.0.113.7",
      "x-auth-request-redirect": "/a%20b?c=d",
    });
    for (const name of ["content-length", "content-type", "transfer-encoding", "x-forwarded-proto", "proxy"])
      expect(question?.headers[name]).toBeUndefined();
    expect(question?.headers["x-original-uri"]).toBeUndefined();
  });

  test("an address, with variables in the target", async () => {
    expect((await get("address", "/x?u=a%26b")).status).toBe(200);
    expect(asked[0]?.url).toBe("/check?u=a%26b&h=address.example.com");
  });

  test("auth-method, which brings X-Original-URI and X-Scheme", async () => {
    expect((await get("method", "/p?q")).status).toBe(200);
    expect(asked[0]?.method).toBe("POST");
    expect(asked[0]?.headers).toMatchObject({ "x-original-uri": "/p?q", "x-scheme": "http" });
    expect((await get("wrong-method")).status).toBe(503);
  });

  test("auth-request-redirect", async () => {
    await get("request-redirect", "/x?next=there");
    expect(asked[0]?.headers["x-auth-request-redirect"]).toBe("request-redirect.example.com/there");
  });

  test("auth-proxy-set-headers from a ConfigMap of the same namespace", async () => {
    expect((await get("set-headers")).status).toBe(200);
    expect(asked[0]?.headers).toMatchObject({ "x-tenant": "blue", "x-sent-from": "fairlead" });
    for (const name of ["set-headers-missing", "set-headers-bad", "set-headers-foreign"])
      expect((await get(name)).status).toBe(503);
  });
});

describe("auth-response-headers", () => {
  test("go to the pod in place of the client's; what the service does not say is taken away", async () => {
    const { echo, headers } = await get("s200", "/", {
      "X-Auth-User": "mallory",
      "X-Missing": "forged",
      "X-Auth-Other": "client's",
    });
    expect(echo.headers["x-auth-user"]).toBe("alice");
    expect(echo.headers["x-missing"]).toBeUndefined();
    expect(echo.headers["x-auth-other"]).toBe("client's");
    expect(headers["x-auth-user"]).toBeUndefined();
  });
});

describe("auth-signin", () => {
  test.each([
    ["signin", "/?a=b&c=d", "http://auth.example/auth/start?rd=http://signin.example.com%2F%3Fa%3Db%26c%3Dd"],
    ["signin", "/a%20b", "http://auth.example/auth/start?rd=http://signin.example.com%2Fa%2520b"],
    ["signin-query", "/x", "https://auth.example/start?a=b&back=http://signin-query.example.com%2Fx"],
    ["signin-rd", "/x", "https://auth.example/start?rd=http"],
    ["signin-host", "/x?y", "https://signin-host.example.com/oauth2/start?rd=%2Fx%3Fy"],
  ])("%s%s → %s", async (name, path, location) => {
    const reply = await get(name, path);
    expect([reply.status, reply.headers.location]).toEqual([302, location]);
  });

  test("the service's cookies and CORS headers go with the redirect", async () => {
    expect((await get("signin")).cookies).toEqual(["session=1", "more=2; Path=/"]);
    const reply = await get("signin-query", "/", { Origin: "https://a.example" });
    expect(reply.headers["access-control-allow-origin"]).toBe("*");
  });

  test("a 403, a pod's own 401, and a route without auth-url are not redirected", async () => {
    expect((await get("signin-403")).status).toBe(403);
    expect((await get("signin-pod")).status).toBe(401);
    expect((await get("signin-alone")).status).toBe(200);
  });
});

test("the service's cookies; with errors only under auth-always-set-cookie", async () => {
  expect((await get("cookie")).cookies).toEqual(["session=1", "more=2; Path=/"]);
  expect((await get("cookie-error")).cookies).toEqual([]);
  expect((await get("cookie-always")).cookies).toEqual(["session=1", "more=2; Path=/"]);
});

describe("auth-cache-key, auth-cache-duration", () => {
  test("an answer is remembered for its key, by host", async () => {
    for (const user of ["right", "right", "wrong", "wrong", "right"])
      expect((await get("cached", "/", { "X-User": user })).status).toBe(user === "right" ? 200 : 401);
    expect(asked).toHaveLength(2);
    await get("cached-other", "/", { "X-User": "right" });
    expect(asked).toHaveLength(3);
  });

  test("an empty key remembers nothing", async () => {
    await get("cached");
    await get("cached");
    expect(asked).toHaveLength(2);
  });

  test("statuses without a time are asked for each time", async () => {
    await get("cached-200", "/", { "X-User": "wrong" });
    await get("cached-200", "/", { "X-User": "wrong" });
    await get("cached-200", "/", { "X-User": "right" });
    await get("cached-200", "/", { "X-User": "right" });
    expect(asked).toHaveLength(3);
  });

  test.each(["cached-cookie", "cached-private"])(
    "%s: what is one client's own is never remembered",
    async (name) => {
      await get(name);
      await get(name);
      expect(asked).toHaveLength(2);
    },
  );
});

describe("a service on this very edge", () => {
  test("by $host: answered by the edge itself, through the other Ingress of the host", async () => {
    const { echo } = await get("self", "/page");
    expect(echo.headers["x-auth-user"]).toBe("alice");
    expect(asked).toHaveLength(1);
    expect(asked[0]?.headers).toMatchObject({
      "x-forwarded-for": "203.0.113.7",
      "x-forwarded-proto": "https",
      "x-original-url": "http://self.example.com/page",
    });
  });

  test("by the name of another host", async () => {
    const reply = await get("by-name");
    expect(reply.status).toBe(401);
    expect(asked[0]?.url).toBe("/401");
  });

  test("a service that asks itself fails, and does not go on for ever", async () => {
    expect((await get("loop")).status).toBe(500);
  });
});

describe("global-auth-url", () => {
  const settings = (data: Record<string, string>) => ({
    "settings.yaml": configMap("ingress-nginx-controller", data, "ingress-nginx"),
  });

  test("guards every route but those that opt out; an update while running", async () => {
    await edge.apply({
      "global.yaml": [
        site("global", {}),
        site("global-out", { "enable-global-auth": "false" }),
        site("global-wrong", { "enable-global-auth": "perhaps" }),
        site("global-own", { "auth-url": `${SERVICE}/200` }),
        site("global-acme", {}, { paths: { "/.well-known/acme-challenge": "Prefix", "/": "Prefix" } }),
        site("global-free", {}, { paths: { "/free": "Prefix" } }),
      ].join(""),
    });
    expect((await get("global")).status).toBe(200);
    await edge.apply(
      settings({
        "global-auth-url": `${SERVICE}/403`,
        "global-auth-response-headers": "X-Auth-User",
        "no-auth-locations": "/free,/.well-known/acme-challenge",
      }),
    );
    expect((await get("global")).status).toBe(403);
    expect((await get("global-wrong")).status).toBe(403);
    expect((await get("global-out")).status).toBe(200);
    expect((await get("global-own")).status).toBe(200);
    expect((await get("global-acme", "/.well-known/acme-challenge/token")).status).toBe(200);
    expect((await get("global-acme", "/x")).status).toBe(403);
    expect((await get("global-free", "/free")).status).toBe(200);
    await edge.apply(
      settings({ "global-auth-url": `${SERVICE}/401`, "global-auth-signin": "https://sign.example/in" }),
    );
    expect((await get("global", "/x")).headers.location).toBe(
      "https://sign.example/in?rd=http://global.example.com%2Fx",
    );
    await edge.apply(
      settings({ "global-auth-url": `${SERVICE}/200`, "global-auth-response-headers": "X-Auth-User" }),
    );
    expect((await get("global")).echo.headers["x-auth-user"]).toBe("alice");
    asked = [];
    await edge.apply(
      settings({
        "global-auth-url": `${SERVICE}/by-user?cookie`,
        "global-auth-method": "HEAD",
        "global-auth-request-redirect": "$host",
        "global-auth-signin": "https://sign.example/in",
        "global-auth-signin-redirect-param": "from",
        "global-auth-cache-key": "$http_x_user",
        "global-auth-cache-duration": "200 1m",
      }),
    );
    expect((await get("global", "/x", { "X-User": "wrong" })).headers.location).toBe(
      "https://sign.example/in?from=http://global.example.com%2Fx",
    );
    await get("global", "/x", { "X-User": "right" });
    await get("global", "/x", { "X-User": "right" });
    expect(asked.map(({ method }) => method)).toEqual(["HEAD", "HEAD"]);
    expect(asked[0]?.headers["x-auth-request-redirect"]).toBe("global.example.com");
    const failing = ingress("failing", { host: "global-failing.example.com" });
    const cookies = async (always: string) => {
      const data = { "global-auth-url": `${SERVICE}/200?cookie`, "global-auth-always-set-cookie": always };
      await edge.apply({ ...settings(data), "failing.yaml": failing });
      return (await get("global-failing")).cookies;
    };
    expect(await cookies("true")).toEqual(["session=1", "more=2; Path=/"]);
    expect(await cookies("false")).toEqual([]);
    await edge.apply(settings({ "global-auth-url": "nonsense" }));
    expect((await get("global")).status).toBe(503);
    await edge.apply(settings({ "allow-cross-namespace-resources": "true" }));
    asked = [];
    expect((await get("set-headers-foreign")).status).toBe(200);
    expect(asked[0]?.headers["x-tenant"]).toBe("foreign");
    await edge.settled(() => edge.remove("settings.yaml"));
    expect((await get("global")).status).toBe(200);
  });
});
