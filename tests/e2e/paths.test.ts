/** Which path of a host a request meets: the Kubernetes rules, regular expressions for a whole host, and nginx's own ways. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;
let nginx: Edge;

const rules = (
  host: string,
  name: string,
  service: string,
  paths: NonNullable<Parameters<typeof ingress>[1]>["paths"],
  annotations: Record<string, string> = {},
) => ingress(service, { host: `${host}.example.com`, name, annotations, paths: paths ?? {} });

const manifests = [
  rules("slash", "slash", "one", { "/my-path/": "Prefix", "/exact/": "Exact" }),
  rules(
    "slash-redirected",
    "slash-r",
    "one",
    { "/my-path/": "Prefix" },
    {
      "permanent-redirect": "https://elsewhere.example",
      "force-ssl-redirect": "true",
      "allowlist-source-range": "192.0.2.0/24",
      "enable-cors": "true",
    },
  ),
  rules("slash-relative", "slash-rel", "one", { "/my-path/": "Prefix" }, { "relative-redirects": "true" }),
  rules("slash-denied", "slash-d", "one", { "/my-path/": "Prefix" }, { "allowlist-source-range": "nobody" }),
  rules("slash-regex", "slash-x", "one", { "/my-path/": "Prefix" }, { "use-regex": "true" }),
  // A newer Ingress of another team turns every path of the host to regular expressions.
  rules("regex", "a-exact", "one", { "/Header": "Exact", "/foo": "Prefix", "/foo/bar/bar": "Prefix" }),
  rules(
    "regex",
    "b-regex",
    "two",
    { "/foo/bar/[a-z]{3}": "ImplementationSpecific" },
    { "use-regex": "true" },
  ),
  rules(
    "off",
    "off",
    "one",
    { "/foo": "Prefix", "/[a-z]+": "ImplementationSpecific" },
    { "use-regex": "false" },
  ),
  rules("unreadable", "unreadable", "one", { "/foo": "Prefix" }, { "use-regex": "yes" }),
  rules("same", "same", "one", { "/": "Prefix" }, { "rewrite-target": "/" }),
  rules("same", "same-too", "two", { "/foo": "Prefix" }),
  rules(
    "pcre",
    "pcre",
    "one",
    { "/a(?=b)": "ImplementationSpecific", "/c": "Prefix" },
    { "use-regex": "true" },
  ),
  rules("specific", "specific", "one", { "/a.c": "ImplementationSpecific" }),
].join("");

beforeAll(async () => {
  edge = await Edge.start({ backends: { one: 1, two: 1 }, manifests });
  nginx = await Edge.start({ args: ["--compat", "nginx"], backends: { one: 1, two: 1 }, manifests });
});
afterAll(async () => {
  await edge.stop();
  await nginx.stop();
});

const get = async (
  of: Edge,
  host: string,
  path: string,
  more: { method?: string; headers?: Record<string, string> } = {},
) => {
  const reply = await of.request({ host, path, ...more });
  return reply.status === 200
    ? reply.echo.pod
    : [reply.status, reply.headers.location].filter(Boolean).join(" ");
};

test.each([
  ["/my-path/", "one-0", "one-0"],
  ["/my-path/x", "one-0", "one-0"],
  ["/my-path", "one-0", "301 http://slash.example.com/my-path/"],
  ["/my-path?a=%20", "one-0", "301 http://slash.example.com/my-path/?a=%20"],
  ["/exact/", "one-0", "one-0"],
  ["/exact", "404", "301 http://slash.example.com/exact/"],
  ["/my-pathology", "404", "404"],
])("a rule's last slash, %s: by the specification %s, --compat nginx %s", async (path, specified, compat) => {
  expect(await get(edge, "slash.example.com", path)).toBe(specified);
  expect(await get(nginx, "slash.example.com", path)).toBe(compat);
});

describe("--compat nginx: the redirect to the slash", () => {
  test.each([
    ["Slash.example.com.:8080", "POST", "301 http://slash.example.com/my-path/"],
    ["slash-redirected.example.com", "OPTIONS", "301 http://slash-redirected.example.com/my-path/"],
    ["slash-redirected.example.com", "GET", "301 http://slash-redirected.example.com/my-path/"],
    ["slash-relative.example.com", "GET", "301 /my-path/"],
    ["slash-denied.example.com", "GET", "503"],
    ["slash-regex.example.com", "GET", "404"],
  ])("%s %s → %s", async (host, method, want) => {
    expect(await get(nginx, host, "/my-path", { method })).toBe(want);
  });
});

test.each([
  ["regex", "/foo/bar/bar", "two-0"],
  ["regex", "/FOO/BAR/baz", "two-0"],
  ["regex", "/foo/bar/bazaar", "two-0"],
  ["regex", "/foo/bar/b", "one-0"],
  ["regex", "/foobar", "one-0"],
  ["regex", "/Header", "one-0"],
  ["regex", "/headers", "one-0"],
  ["regex", "/x/foo", "404"],
  ["off", "/foo", "one-0"],
  ["off", "/FOO", "404"],
  ["off", "/bar", "404"],
  ["unreadable", "/FOO", "404"],
  ["same", "/FOO", "one-0"],
  ["same", "/foo/x", "two-0"],
  // A pattern that cannot be honoured exactly costs its own path alone.
  ["pcre", "/ab", "404"],
  ["pcre", "/cd", "one-0"],
  ["specific", "/abc", "404"],
  ["specific", "/a.c/d", "one-0"],
])("use-regex and the order of paths: %s%s → %s", async (host, path, want) => {
  expect(await get(edge, `${host}.example.com`, path)).toBe(want);
});

test("a host leaves regular expressions when the Ingress that asked is gone", async () => {
  await edge.apply({
    "late.yaml":
      rules("late", "late-a", "one", { "/foo": "Exact" }) +
      rules("late", "late-b", "two", { "/x": "Prefix" }, { "use-regex": "true" }),
  });
  expect(await get(edge, "late.example.com", "/FOOD")).toBe("one-0");
  await edge.apply({ "late.yaml": rules("late", "late-a", "one", { "/foo": "Exact" }) });
  expect(await get(edge, "late.example.com", "/FOOD")).toBe("404");
});
