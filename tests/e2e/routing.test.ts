/** Paths and hosts as the Kubernetes Ingress specification says, through the running edge. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;

/** Kubernetes' own table (concepts/services-networking/ingress, "Examples" of path types), one host a row. */
const PATH_TABLE: readonly {
  readonly rules: Readonly<Record<string, "Exact" | "Prefix">>;
  readonly hits?: readonly string[];
  readonly misses?: readonly string[];
}[] = [
  { rules: { "/": "Prefix" }, hits: ["/", "/foo", "/foo/bar?x=1", "/%20"] },
  { rules: { "/foo": "Exact" }, hits: ["/foo", "/foo?q"], misses: ["/bar", "/foo/", "/FOO", "/foo/x", "/"] },
  { rules: { "/foo/": "Exact" }, hits: ["/foo/"], misses: ["/foo"] },
  { rules: { "/foo": "Prefix" }, hits: ["/foo", "/foo/", "/foo/bar"], misses: ["/FOO", "/foobar", "/"] },
  { rules: { "/foo/": "Prefix" }, hits: ["/foo", "/foo/", "/foo/bar"], misses: ["/foobar"] },
  { rules: { "/aaa/bb": "Prefix" }, hits: ["/aaa/bb"], misses: ["/aaa/bbb"] },
  {
    rules: { "/aaa/bbb": "Prefix" },
    hits: ["/aaa/bbb", "/aaa/bbb/", "/aaa/bbb/ccc"],
    misses: ["/aaa/bbbxyz", "/aaa"],
  },
  {
    rules: { "/aaa/bbb/": "Prefix" },
    hits: ["/aaa/bbb", "/aaa/bbb/", "/aaa/bbb/ccc"],
    misses: ["/aaa/bbbxyz"],
  },
];

/** Rows where the longest rule, or the more exact one, decides: which Service answers. */
const PRECEDENCE_TABLE: readonly {
  readonly rules: readonly (readonly [path: string, type: "Exact" | "Prefix", service: string])[];
  readonly asks: Readonly<Record<string, string | 404>>;
}[] = [
  {
    rules: [
      ["/", "Prefix", "a"],
      ["/aaa", "Prefix", "b"],
    ],
    asks: { "/aaa/ccc": "b", "/aaa": "b", "/ccc": "a" },
  },
  {
    rules: [
      ["/", "Prefix", "a"],
      ["/aaa", "Prefix", "b"],
      ["/aaa/bbb", "Prefix", "c"],
    ],
    asks: { "/aaa/bbb": "c", "/aaa/bbb/x": "c", "/aaa/b": "b", "/ccc": "a" },
  },
  { rules: [["/aaa", "Prefix", "b"]], asks: { "/ccc": 404 } },
  {
    rules: [
      ["/foo", "Prefix", "a"],
      ["/foo", "Exact", "b"],
    ],
    asks: { "/foo": "b", "/foo/": "a", "/foo/x": "a" },
  },
  {
    rules: [
      ["/aaa/bbb", "Prefix", "b"],
      ["/aaa", "Prefix", "a"],
    ],
    asks: { "/aaa/bbb": "b", "/aaa/bbb/ccc": "b", "/aaa/ccc": "a", "/aaaccc": 404 },
  },
];

const pathHost = (row: number): string => `paths-${row}.example.com`;
const precedenceHost = (row: number): string => `precedence-${row}.example.com`;

beforeAll(async () => {
  const manifests = [
    ...PATH_TABLE.map(({ rules }, row) => ingress("a", { host: pathHost(row), paths: rules })),
    ...PRECEDENCE_TABLE.flatMap(({ rules }, row) =>
      rules.map(([path, type, service], index) =>
        ingress(service, {
          name: `precedence-${row}-${index}`,
          host: precedenceHost(row),
          paths: { [path]: type },
        }),
      ),
    ),
    ingress("a", { host: "*.foo.example.com" }),
    ingress("b", { host: "exact.foo.example.com" }),
    ingress("c", { name: "any-host", paths: { "/any": "Prefix" } }),
  ];
  edge = await Edge.start({ backends: { a: 1, b: 1, c: 1 }, manifests: manifests.join("") });
});

afterAll(() => edge?.stop());

describe("one rule", () => {
  test.each(
    PATH_TABLE.flatMap(({ rules, hits = [], misses = [] }, row) => [
      ...hits.map((path) => [Object.entries(rules).flat().reverse().join(" "), path, 200, row] as const),
      ...misses.map((path) => [Object.entries(rules).flat().reverse().join(" "), path, 404, row] as const),
    ]),
  )("%s, asked for %s: %i", async (_rule, path, status, row) => {
    const reply = await edge.request({ host: pathHost(row), path });
    expect(reply.status).toBe(status);
    if (status === 200) expect(reply.echo.url).toBe(path);
  });
});

describe("several rules", () => {
  test.each(
    PRECEDENCE_TABLE.flatMap(({ asks }, row) =>
      Object.entries(asks).map(([path, want]) => [row, path, want] as const),
    ),
  )("row %i, asked for %s: %s", async (row, path, want) => {
    const reply = await edge.request({ host: precedenceHost(row), path });
    if (want === 404) expect(reply.status).toBe(404);
    else expect(reply.echo.pod).toBe(`${want}-0`);
  });
});

describe("hosts", () => {
  test.each([
    ["bar.foo.example.com", "a-0"],
    ["BAR.foo.Example.com", "a-0"],
    ["bar.foo.example.com:8080", "a-0"],
    ["bar.foo.example.com.", "a-0"],
    ["exact.foo.example.com", "b-0"],
    ["baz.bar.foo.example.com", 404],
    ["foo.example.com", 404],
    ["unknown.example.org", 404],
  ] as const)("%s: %s", async (host, want) => {
    const reply = await edge.request({ host, path: "/x" });
    if (want === 404) {
      expect(reply.status).toBe(404);
      expect(reply.text).toContain("404 Not Found");
    } else {
      expect(reply.echo.pod).toBe(want);
      expect(reply.echo.headers.host).toBe(host);
    }
  });

  test("a rule without a host answers for hosts that no rule names, and for no other", async () => {
    expect((await edge.request({ host: "unknown.example.org", path: "/any/x" })).echo.pod).toBe("c-0");
    expect((await edge.request({ host: pathHost(1), path: "/any/x" })).status).toBe(404);
  });
});
