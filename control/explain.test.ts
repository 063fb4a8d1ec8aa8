import { describe, expect, test } from "vitest";
import { ingress, modelOf, service, slice } from "../tests/cluster-model.ts";
import { compile } from "./compile/compile.ts";
import type { CompileOptions } from "./compile/options.ts";
import { type Explanation, explain } from "./explain.ts";

const cluster = modelOf(
  service("shop/web", ["80"]),
  slice("shop/web", ["80"], ["10.0.0.1", "10.0.0.2"]),
  service("shop/empty", ["80"]),
  ingress("shop/a", {
    rules: {
      "shop.example.com": ["/aaa web:80", "Exact /aaa web:80", "/dir/ web:80", "/empty empty:80"],
      "*.example.com": ["/ web:80"],
    },
    nginx: { "enable-cors": "true" },
  }),
  ingress("shop/b", { defaultBackend: "web:80" }),
  ingress("shop/re", { rules: { re: ["/a.c web:80"] }, nginx: { "use-regex": "true" } }),
);

function ask(
  url: string,
  headers: readonly (readonly [string, string])[] = [],
  options: CompileOptions = {},
): Explanation {
  const { config, diagnostics } = compile(cluster, options);
  const found = explain(config, { url, method: "get", headers }, diagnostics);
  if (found === undefined) throw new Error(`${url} is no URL.`);
  return found;
}

describe("explain", () => {
  test.each([
    ["http://shop.example.com/aaa", "shop.example.com", "Exact /aaa", undefined],
    ["http://SHOP.example.com.:8080/aaa/", "shop.example.com", "Prefix /aaa", undefined],
    ["shop.example.com//x/..//%61aa?y=/z", "shop.example.com", "Exact /aaa", undefined],
    ["http://shop.example.com/AAA", "shop.example.com", "Prefix /", 404],
    ["http://shop.example.com/dir", "shop.example.com", "Prefix /dir/", undefined],
    ["http://shop.example.com/empty/x", "shop.example.com", "Prefix /empty", 503],
    ["http://b.example.com/", "*.example.com", "Prefix /", undefined],
    ["http://a.b.example.com/", "*", "Prefix /", undefined],
    ["http://re/ABC/x", "re", "Prefix /a.c", undefined],
  ])("%s meets %s, %s", (url, host, route, status) => {
    const found = ask(url);
    expect(found.host?.name).toBe(host);
    expect(`${found.route?.pathType} ${found.route?.path}`).toBe(route);
    expect(found.answer?.status).toBe(status);
  });

  test("filters with their policies, endpoints with their reason, and what the compiler said", () => {
    const found = ask("http://shop.example.com/aaa");
    expect(found.request).toMatchObject({ method: "GET", normalisedPath: "/aaa" });
    expect(found.filters).toEqual([
      { name: "cors", level: "route", policy: expect.objectContaining({ allowOrigins: ["*"] }) },
    ]);
    expect(found.backend).toMatchObject({ name: "shop/web:80", endpoints: ["10.0.0.1:80", "10.0.0.2:80"] });
    expect(found.diagnostics).toContainEqual(expect.objectContaining({ object: "shop/a" }));
  });

  test("a Host header counts instead of the URL's", () => {
    expect(ask("http://127.0.0.1:8787/aaa", [["host", "shop.example.com"]]).host?.name).toBe(
      "shop.example.com",
    );
  });

  test("compat nginx sends to the slash", () => {
    expect(ask("http://shop.example.com/dir", [], { compat: "nginx" }).answer?.status).toBe(301);
  });

  test.each(["/../x", "/%00", "/%zz"])("%s is 400", (path) => {
    expect(ask(`http://shop.example.com${path}`).answer?.status).toBe(400);
  });

  test("an unknown host without a catch-all is 404", () => {
    const { config } = compile(modelOf());
    expect(explain(config, { url: "http://x/", method: "GET", headers: [] })?.answer?.status).toBe(404);
    expect(explain(config, { url: "/x", method: "GET", headers: [] })).toBeUndefined();
  });
});
