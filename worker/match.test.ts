import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { HostConfig, Route } from "../edge-config/config.ts";
import { loadRe2 } from "../edge-config/pattern/pattern.ts";
import { compileMatcher } from "./match.ts";

await loadRe2();

type Rule = readonly [pathType: "Exact" | "Prefix", path: string];

/** As the compiler orders them: longest path first, Exact before Prefix. */
function sorted(rules: readonly Rule[]): readonly Rule[] {
  return [...rules].sort(
    ([leftType, left], [rightType, right]) => right.length - left.length || leftType.localeCompare(rightType),
  );
}

function matcher(matching: HostConfig["matching"], rules: readonly Rule[]) {
  const routes = sorted(rules).map(
    ([pathType, path]): Route => ({ pathType, path, ingress: "default/test", backend: "b" }),
  );
  const compiled = compileMatcher(
    matching,
    routes,
    routes.map(({ pathType, path }) => `${pathType} ${path}`),
  );
  return (path: string) => {
    const match = compiled.find(path);
    return match === undefined ? undefined : match.kind === "route" ? match.entry : `301 ${match.entry}`;
  };
}

describe("Kubernetes' table of path types", () => {
  test.each<readonly [rules: readonly Rule[], path: string, matched: string | undefined]>([
    [[["Prefix", "/"]], "/any/thing", "Prefix /"],
    [[["Exact", "/foo"]], "/foo", "Exact /foo"],
    [[["Exact", "/foo"]], "/bar", undefined],
    [[["Exact", "/foo"]], "/foo/", undefined],
    [[["Exact", "/foo/"]], "/foo", undefined],
    [[["Exact", "/foo"]], "/FOO", undefined],
    [[["Prefix", "/foo"]], "/foo", "Prefix /foo"],
    [[["Prefix", "/foo"]], "/foo/", "Prefix /foo"],
    [[["Prefix", "/foo/"]], "/foo", "Prefix /foo/"],
    [[["Prefix", "/foo/"]], "/foo/", "Prefix /foo/"],
    [[["Prefix", "/foo"]], "/FOO", undefined],
    [[["Prefix", "/aaa/bb"]], "/aaa/bbb", undefined],
    [[["Prefix", "/aaa/bbb"]], "/aaa/bbb", "Prefix /aaa/bbb"],
    [[["Prefix", "/aaa/bbb/"]], "/aaa/bbb", "Prefix /aaa/bbb/"],
    [[["Prefix", "/aaa/bbb"]], "/aaa/bbb/", "Prefix /aaa/bbb"],
    [[["Prefix", "/aaa/bbb"]], "/aaa/bbb/ccc", "Prefix /aaa/bbb"],
    [[["Prefix", "/aaa/bbb"]], "/aaa/bbbxyz", undefined],
    [
      [
        ["Prefix", "/"],
        ["Prefix", "/aaa"],
      ],
      "/aaa/ccc",
      "Prefix /aaa",
    ],
    [
      [
        ["Prefix", "/"],
        ["Prefix", "/aaa"],
        ["Prefix", "/aaa/bbb"],
      ],
      "/aaa/bbb",
      "Prefix /aaa/bbb",
    ],
    [
      [
        ["Prefix", "/"],
        ["Prefix", "/aaa"],
        ["Prefix", "/aaa/bbb"],
      ],
      "/ccc",
      "Prefix /",
    ],
    [[["Prefix", "/aaa"]], "/ccc", undefined],
    [
      [
        ["Prefix", "/foo"],
        ["Exact", "/foo"],
      ],
      "/foo",
      "Exact /foo",
    ],
    [
      [
        ["Prefix", "/foo"],
        ["Exact", "/foo"],
      ],
      "/foo/",
      "Prefix /foo",
    ],
    [
      [
        ["Prefix", "/foo"],
        ["Exact", "/foo/"],
      ],
      "/foo/",
      "Exact /foo/",
    ],
    [
      [
        ["Prefix", "/foo"],
        ["Prefix", "/foo/"],
      ],
      "/foo",
      "Prefix /foo",
    ],
    [
      [
        ["Prefix", "/foo"],
        ["Prefix", "/foo/"],
      ],
      "/foo/x",
      "Prefix /foo/",
    ],
    [[["Prefix", "/café"]], "/caf\u00c3\u00a9/x", "Prefix /café"],
  ])("%j, %s → %s", (rules, path, matched) => {
    expect(matcher("kubernetes", rules)(path)).toBe(matched);
  });
});

describe("nginx's trailing slash", () => {
  test.each<readonly [rules: readonly Rule[], path: string, matched: string | undefined]>([
    [[["Prefix", "/my-path/"]], "/my-path", "301 Prefix /my-path/"],
    [[["Exact", "/my-path/"]], "/my-path", "301 Exact /my-path/"],
    [[["Prefix", "/my-path/"]], "/my-path/x", "Prefix /my-path/"],
    [
      [
        ["Prefix", "/my-path/"],
        ["Prefix", "/my-path"],
      ],
      "/my-path",
      "Prefix /my-path",
    ],
    [
      [
        ["Prefix", "/my-path/"],
        ["Exact", "/my-path"],
      ],
      "/my-path",
      "Exact /my-path",
    ],
    [[["Prefix", "/"]], "/", "Prefix /"],
  ])("%j, %s → %s", (rules, path, matched) => {
    expect(matcher("nginx", rules)(path)).toBe(matched);
  });
});

describe("a regex host", () => {
  const find = matcher("regex", [
    ["Prefix", "/foo/bar/[a-z]{3}"],
    ["Prefix", "/foo/bar/bar"],
    ["Exact", "/header"],
    ["Prefix", "/something(/|$)(.*)"],
  ]);
  test.each([
    ["/foo/bar/bar", "Prefix /foo/bar/[a-z]{3}"],
    ["/FOO/BAR/xyz", "Prefix /foo/bar/[a-z]{3}"],
    ["/headers", "Exact /header"],
    ["/something", "Prefix /something(/|$)(.*)"],
    ["/something/new", "Prefix /something(/|$)(.*)"],
    ["/somethingelse", undefined],
    ["/x/foo/bar/bar", undefined],
  ])("%s → %s", (path, matched) => {
    expect(find(path)).toBe(matched);
  });

  test("a pattern that the engine refuses matches nothing, and costs only itself", () => {
    const some = matcher("regex", [
      ["Prefix", "/(?=lookahead)"],
      ["Prefix", "/a"],
    ]);
    expect(some("/lookahead")).toBeUndefined();
    expect(some("/a")).toBe("Prefix /a");
  });
});

describe("against the specification read plainly", () => {
  const elements = (path: string): readonly string[] => path.split("/").filter((element) => element !== "");

  /** Kubernetes Ingress: an Exact match first, else the Prefix with the most elements; of two alike, the one as written. */
  function naive(rules: readonly Rule[], path: string): string | undefined {
    const exact = rules.find(([type, rule]) => type === "Exact" && rule === path);
    if (exact !== undefined) return `Exact ${exact[1]}`;
    const wanted = elements(path);
    const fitting = rules
      .filter(
        ([type, rule]) => type === "Prefix" && elements(rule).every((element, at) => wanted[at] === element),
      )
      .sort(([, left], [, right]) => {
        const byElements = elements(right).length - elements(left).length;
        if (byElements !== 0) return byElements;
        // `/foo` and `/foo/`: the one that is written like the path's own beginning.
        const endsThere = elements(left).length === wanted.length && !path.endsWith("/");
        return endsThere ? left.length - right.length : right.length - left.length;
      });
    return fitting[0] === undefined ? undefined : `Prefix ${fitting[0][1]}`;
  }

  const element = fc.constantFrom("a", "b", "aa", "ab", "longer-element");
  const path = fc
    .tuple(fc.array(element, { maxLength: 5 }), fc.boolean())
    .map(([parts, slash]) => `/${parts.join("/")}${slash && parts.length > 0 ? "/" : ""}`);
  const rule = fc.tuple(fc.constantFrom("Exact" as const, "Prefix" as const), path);

  test.each([
    ["few prefixes, scanned", 8],
    ["many prefixes, looked up", 60],
  ])("%s", (_name, maxLength) => {
    const rules = fc.uniqueArray(rule, {
      maxLength,
      selector: ([type, text]) => `${type} ${text}`,
      minLength: maxLength >> 1,
    });
    fc.assert(
      fc.property(rules, fc.array(path, { minLength: 1, maxLength: 20 }), (given, paths) => {
        const find = matcher("kubernetes", given);
        for (const one of paths)
          expect(find(one), `${one} in ${JSON.stringify(given)}`).toBe(naive(given, one));
      }),
      { numRuns: 500 },
    );
  });
});

describe("many prefixes", () => {
  const others = Array.from({ length: 20 }, (_, at): Rule => ["Prefix", `/other/${at}`]);

  test("the longest one is found behind one of the same length that ends in a slash", () => {
    const rules: readonly Rule[] = [["Prefix", "/a/long/path/"], ["Prefix", "/the/longest1"], ...others];
    expect(matcher("kubernetes", rules)("/the/longest1")).toBe("Prefix /the/longest1");
    expect(matcher("kubernetes", rules)("/the/longest1/below")).toBe("Prefix /the/longest1");
  });
});

describe("hosts with the same paths", () => {
  const routesTo = (pathType: Route["pathType"]): readonly Route[] => [
    { pathType, path: "/foo/", ingress: "default/test", backend: "b" },
    { pathType: "Prefix", path: "/", ingress: "default/test", backend: "b" },
  ];

  test("each has entries of its own", () => {
    const routes = routesTo("Prefix");
    const one = compileMatcher("kubernetes", routes, ["one /foo/", "one /"]);
    const other = compileMatcher("kubernetes", routes, ["other /foo/", "other /"]);
    expect(one.find("/foo/x")).toEqual({ kind: "route", entry: "one /foo/" });
    expect(other.find("/foo/x")).toEqual({ kind: "route", entry: "other /foo/" });
    expect(other.find("/")).toEqual({ kind: "route", entry: "other /" });
  });

  test("what else tells them apart is kept apart: the kind of matching, the type of a path", () => {
    const found = (matching: HostConfig["matching"], pathType: Route["pathType"]) =>
      compileMatcher(matching, routesTo(pathType), ["/foo/", "/"]).find("/foo");
    expect(found("kubernetes", "Exact")).toEqual({ kind: "route", entry: "/" });
    expect(found("nginx", "Exact")).toEqual({ kind: "trailingSlash", entry: "/foo/" });
    expect(found("kubernetes", "Prefix")).toEqual({ kind: "route", entry: "/foo/" });
  });

  test("a long path is not taken for two short ones", () => {
    const find = (...paths: readonly string[]) =>
      compileMatcher(
        "kubernetes",
        paths.map((path) => ({ pathType: "Exact", path, ingress: "default/test", backend: "b" })),
        paths,
      ).find("/b");
    expect(find("/a=2:/b")).toBeUndefined();
    expect(find("/a", "/b")).toEqual({ kind: "route", entry: "/b" });
  });
});
