/** Redirects and rewrites through the running edge: status, Location and what the pod sees, to the letter. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;

const site = (name: string, annotations: Record<string, string>, more: Parameters<typeof ingress>[1] = {}) =>
  ingress("web", { host: `${name}.example.com`, annotations, ...more });

beforeAll(async () => {
  edge = await Edge.start({
    backends: { web: 1 },
    manifests: [
      site("permanent", { "permanent-redirect": "https://www.example.com/new?a=b" }),
      site("permanent-308", { "permanent-redirect": "/new", "permanent-redirect-code": "308" }),
      site("permanent-404", {
        "permanent-redirect": "https://www.example.com",
        "permanent-redirect-code": "404",
      }),
      site("permanent-300", {
        "permanent-redirect": "https://www.example.com",
        "permanent-redirect-code": "300",
      }),
      site("temporary", {
        "temporal-redirect": "https://t.example.com",
        "permanent-redirect": "https://p.example.com",
      }),
      site("temporary-307", { "temporal-redirect": "/t", "temporal-redirect-code": "307" }),
      site("temporary-308", { "temporal-redirect": "/t", "temporal-redirect-code": "308" }),
      site("relative", { "permanent-redirect": "/new", "relative-redirects": "true" }),
      site("broken", { "permanent-redirect": "https://$host" }),
      site("root", { "app-root": "/shop" }),
      site("secure", {}, { tls: [{ hosts: ["secure.example.com"] }] }),
      site("secure-off", { "ssl-redirect": "false" }, { tls: [{ hosts: ["secure-off.example.com"] }] }),
      site("forced", { "force-ssl-redirect": "true" }),
      site("kept", { "force-ssl-redirect": "true", "preserve-trailing-slash": "true" }),
      site("port", { "force-ssl-redirect": "true", "use-port-in-redirects": "true" }),
      site("cors-forced", { "force-ssl-redirect": "true", "enable-cors": "true" }),
      site("bare", { "from-to-www-redirect": "true" }),
      ingress("web", { host: "www.wide.example.com", annotations: { "from-to-www-redirect": "true" } }),
      site("alias", { "server-alias": "other.example.net, *.more.example.net" }),
      site(
        "groups",
        { "rewrite-target": "/$2", "x-forwarded-prefix": "/something" },
        { paths: { "/something(/|$)(.*)": "ImplementationSpecific" } },
      ),
      site("plain", { "rewrite-target": "/" }, { paths: { "/something": "Prefix" } }),
      site("same", { "rewrite-target": "/foo", "x-forwarded-prefix": "/p" }, { paths: { "/foo": "Prefix" } }),
      site("ten", { "rewrite-target": "/x/$10" }, { paths: { "/a/(.*)": "ImplementationSpecific" } }),
      site(
        "out",
        { "rewrite-target": "https://out.example.net/$1" },
        { paths: { "/go/(.*)": "ImplementationSpecific" } },
      ),
      site(
        "old",
        { "ingress.kubernetes.io/rewrite-target": "/", "rewrite-mode": "prefix" },
        { paths: { "/something": "Prefix" } },
      ),
      site(
        "old-new",
        { "rewrite-target": "/new", "rewrite-mode": "prefix" },
        { paths: { "/something": "Prefix" } },
      ),
      site(
        "regex",
        { "use-regex": "true" },
        { name: "regex-1", paths: { "/foo/bar/[a-z]{3}": "ImplementationSpecific" } },
      ),
      ingress("web", {
        host: "regex.example.com",
        name: "regex-2",
        paths: { "/foo/bar/bar": "Prefix", "/Header": "Exact" },
      }),
      site("vhost", { "upstream-vhost": "internal.example.net" }),
    ].join(""),
  });
});

afterAll(async () => edge.stop());

const location = async (host: string, path = "/", headers: Record<string, string> = {}) => {
  const reply = await edge.request({ host, path, headers });
  return [reply.status, reply.headers.location];
};

describe("permanent-redirect, temporal-redirect", () => {
  test.each([
    ["permanent.example.com", "/x?y=z", [301, "https://www.example.com/new?a=b"]],
    ["permanent-308.example.com", "/x", [308, "http://permanent-308.example.com/new"]],
    ["permanent-308.example.com:8080", "/x", [308, "http://permanent-308.example.com/new"]],
    ["permanent-404.example.com", "/", [301, "https://www.example.com"]],
    ["permanent-300.example.com", "/", [300, undefined]],
    ["temporary.example.com", "/", [302, "https://t.example.com"]],
    ["temporary-307.example.com", "/", [307, "http://temporary-307.example.com/t"]],
    ["temporary-308.example.com", "/", [302, "http://temporary-308.example.com/t"]],
    ["relative.example.com", "/", [301, "/new"]],
  ] as const)("%s%s", async (host, path, want) => {
    expect(await location(host, path)).toEqual(want);
  });

  test("a status without Location has the text as its body", async () => {
    expect((await edge.request({ host: "permanent-300.example.com" })).text).toBe("https://www.example.com");
  });

  test("an unreadable one leaves the route as it is", async () => {
    expect((await edge.request({ host: "broken.example.com" })).status).toBe(200);
  });

  test("other methods are redirected as well", async () => {
    const reply = await edge.request({ host: "permanent.example.com", method: "POST", body: "x" });
    expect(reply.status).toBe(301);
  });
});

describe("app-root", () => {
  test.each([
    ["root.example.com", "/", [302, "http://root.example.com/shop"]],
    ["Root.example.com:8080", "/?q=1", [302, "http://Root.example.com:8080/shop"]],
    ["root.example.com", "//", [302, "http://root.example.com/shop"]],
    ["root.example.com", "/x/..", [302, "http://root.example.com/shop"]],
    ["root.example.com", "/shop", [200, undefined]],
  ] as const)("%s%s", async (host, path, want) => {
    expect(await location(host, path)).toEqual(want);
  });
});

describe("https", () => {
  test.each([
    ["secure.example.com", "/", [308, "https://secure.example.com"]],
    ["secure.example.com:8080", "/a/b/?c=d", [308, "https://secure.example.com/a/b/?c=d"]],
    ["secure.example.com", "/a/", [308, "https://secure.example.com/a"]],
    ["secure-off.example.com", "/", [200, undefined]],
    ["forced.example.com", "/x", [308, "https://forced.example.com/x"]],
    ["kept.example.com", "/", [308, "https://kept.example.com/"]],
    ["port.example.com", "/x", [308, "https://port.example.com:443/x"]],
  ] as const)("%s%s", async (host, path, want) => {
    expect(await location(host, path)).toEqual(want);
  });

  test("a CORS preflight is answered before the redirect", async () => {
    const reply = await edge.request({
      host: "cors-forced.example.com",
      method: "OPTIONS",
      headers: { Origin: "https://a.example" },
    });
    expect(reply.status).toBe(204);
    expect(reply.headers["access-control-allow-origin"]).toBe("*");
  });
});

describe("from-to-www-redirect", () => {
  const port = () => edge.url.port;
  test("towards the host that the Ingress has, with the port", async () => {
    expect(await location("www.bare.example.com", "/foo?a=b")).toEqual([
      308,
      `http://bare.example.com:${port()}/foo?a=b`,
    ]);
    expect(await location("www.bare.example.com", "/")).toEqual([308, `http://bare.example.com:${port()}`]);
    expect(await location("wide.example.com", "/x/")).toEqual([
      308,
      `http://www.wide.example.com:${port()}/x`,
    ]);
  });
  test("the host itself is served", async () => {
    expect((await edge.request({ host: "bare.example.com" })).status).toBe(200);
    expect((await edge.request({ host: "www.wide.example.com" })).status).toBe(200);
  });
});

describe("server-alias", () => {
  test.each([
    ["alias.example.com", 200],
    ["other.example.net", 200],
    ["x.more.example.net", 200],
    ["x.y.more.example.net", 404],
    ["nothing.example.net", 404],
  ])("%s → %d", async (host, status) => {
    expect((await edge.request({ host })).status).toBe(status);
  });
});

describe("rewrite-target", () => {
  const seen = async (host: string, path: string) => {
    const reply = await edge.request({ host: `${host}.example.com`, path });
    return reply.status === 200 ? reply.echo.url : reply.status;
  };
  test.each([
    ["groups", "/something", "/"],
    ["groups", "/something/", "/"],
    ["groups", "/something/new?a=b", "/new?a=b"],
    ["groups", "/SOMETHING/New", "/New"],
    ["groups", "/somethingelse", 404],
    ["groups", "/something/a%20b%2Fc", "/a%20b/c"],
    ["groups", "/something/%25", "/%25"],
    ["plain", "/something", "/"],
    ["plain", "/something/new", "/"],
    ["same", "/foo/bar", "/foo/bar"],
    ["ten", "/a/b", "/x/b0"],
    ["old", "/something", "/"],
    ["old", "/something/", "/"],
    ["old", "/something/new", "/new"],
    ["old", "/somethingelse", 404],
    ["old-new", "/something", "/new/"],
    ["old-new", "/something/x?y=z", "/new/x?y=z"],
    ["regex", "/foo/bar/bar", "/foo/bar/bar"],
    ["regex", "/headers", "/headers"],
    ["regex", "/nothing", 404],
  ] as const)("%s%s → %s", async (host, path, want) => {
    expect(await seen(host, path)).toBe(want);
  });

  test("x-forwarded-prefix goes with a rewrite, and only with one", async () => {
    const rewritten = await edge.request({ host: "groups.example.com", path: "/something/x" });
    expect(rewritten.echo.headers["x-forwarded-prefix"]).toBe("/something");
    const same = await edge.request({ host: "same.example.com", path: "/foo" });
    expect(same.echo.headers["x-forwarded-prefix"]).toBeUndefined();
  });

  test("a URL as the target redirects, with the query", async () => {
    expect(await location("out.example.com", "/go/a%20b?c=d")).toEqual([
      302,
      "https://out.example.net/a%20b?c=d",
    ]);
  });
});

test("upstream-vhost is the pod's Host, and the client's stays in X-Forwarded-Host", async () => {
  const { echo } = await edge.request({ host: "vhost.example.com" });
  expect(echo.headers["x-forwarded-host"]).toBe("vhost.example.com");
  expect(echo.headers.host).toBe("internal.example.net");
});
