import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodePath, normalisePath } from "./path.ts";

describe("normalisePath", () => {
  const cases: readonly (readonly [raw: string, path: string | undefined])[] = [
    ["/", "/"],
    ["/foo", "/foo"],
    ["/foo/", "/foo/"],
    ["/FOO", "/FOO"],
    ["/a.b/..c/...d/.e", "/a.b/..c/...d/.e"],
    // Dot segments (RFC 3986 §5.2.4).
    ["/a/./b", "/a/b"],
    ["/a/../b", "/b"],
    ["/a/b/../../c", "/c"],
    ["/a/.", "/a/"],
    ["/a/..", "/"],
    ["/a/b/..", "/a/"],
    ["/a/...", "/a/..."],
    ["/.", "/"],
    ["/./", "/"],
    ["/ip/abc/../../uuid", "/uuid"],
    // Slashes are merged before dot segments are looked at, as in nginx.
    ["//", "/"],
    ["//uuid", "/uuid"],
    ["/a//b///c", "/a/b/c"],
    ["/a//../b", "/b"],
    ["/a/b//..//c", "/a/c"],
    // Decoded once, and then taken for what it says.
    ["/a%2Fb", "/a/b"],
    ["/a%2fb", "/a/b"],
    ["/%2e/a", "/a"],
    ["/a/%2E%2e/b", "/b"],
    ["/a%2F..%2Fb", "/b"],
    ["/a%2F%2Fb", "/a/b"],
    ["/%252F", "/%2F"],
    ["/%2525", "/%25"],
    ["/a%20b", "/a b"],
    ["/a%3Fb%23c", "/a?b#c"],
    ["/%41", "/A"],
    ["/a+b;c&d,e[f]~", "/a+b;c&d,e[f]~"],
    ["/caf%C3%A9", "/caf\u00c3\u00a9"],
    ["/café", "/caf\u00c3\u00a9"],
    ["/%ff", "/\u00ff"],
    ["/a%0Ab", "/a\nb"],
    ["/a\\b", "/a\\b"],
    ["/a#b/../c", "/a"],
    // What nginx answers with 400.
    ["/..", undefined],
    ["/../", undefined],
    ["/%2e%2e/x", undefined],
    ["/a/../../b", undefined],
    ["/a/..//../b", undefined],
    ["/%00", undefined],
    ["/a%00b", undefined],
    ["/%zz", undefined],
    ["/%", undefined],
    ["/a%2", undefined],
    ["/a%4g", undefined],
    ["/a b", undefined],
    ["/a\tb", undefined],
    ["/a\u007fb", undefined],
  ];
  test.each(cases)("%j means %j", (raw, path) => {
    expect(normalisePath(raw)).toBe(path);
  });

  /** Straight from the description: decode, split, resolve, join. */
  function naive(raw: string): string | undefined {
    if (/%(?![0-9a-f]{2})|%00/i.test(raw)) return undefined;
    const decoded = raw.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
    const segments: string[] = [];
    const parts = decoded.split("/").slice(1);
    for (const part of parts) {
      if (part === ".." && segments.pop() === undefined) return undefined;
      if (part !== ".." && part !== "." && part !== "") segments.push(part);
    }
    if (["", ".", ".."].includes(parts.at(-1) ?? "") && segments.length > 0) segments.push("");
    return `/${segments.join("/")}`;
  }

  const piece = fc.constantFrom(
    "a",
    "B",
    ".",
    "..",
    "/",
    "//",
    "%2F",
    "%2e",
    "%2E",
    "%25",
    "%41",
    "%zz",
    "%",
    "%00",
    "é",
    "é",
    "+",
  );
  const ascii = fc
    .array(
      piece.filter((text) => text !== "é"),
      { maxLength: 12 },
    )
    .map((parts) => `/${parts.join("")}`);

  test("agrees with the plain reading of the rules", () => {
    fc.assert(
      fc.property(ascii, (raw) => {
        expect(normalisePath(raw)).toBe(naive(raw));
      }),
      { numRuns: 5000 },
    );
  });

  test("gives paths that are normal: no dot segment, no doubled slash, stable when encoded and read again", () => {
    const raw = fc.array(piece, { maxLength: 12 }).map((parts) => `/${parts.join("")}`);
    fc.assert(
      fc.property(raw, (text) => {
        const path = normalisePath(text);
        if (path === undefined) return;
        expect(path).toMatch(/^\//);
        expect(path).not.toMatch(/\/\/|\/\.{1,2}(\/|$)/);
        expect(normalisePath(encodePath(path))).toBe(path);
      }),
    );
  });
});

describe("encodePath", () => {
  test.each([
    ["/a/b", "/a/b"],
    ["/a b", "/a%20b"],
    ['/"#%<>?\\^`{|}', "/%22%23%25%3C%3E%3F%5C%5E%60%7B%7C%7D"],
    ["/+;&,[]~!$'()*:=@", "/+;&,[]~!$'()*:=@"],
    ["/caf\u00c3\u00a9", "/caf%C3%A9"],
    ["/\n\u007f", "/%0A%7F"],
  ])("%j becomes %j", (path, bytes) => {
    expect(encodePath(path)).toBe(bytes);
  });
});
