import fc from "fast-check";
import { RE2JS } from "re2js";
import { describe, expect, test } from "vitest";
import { ByteSet } from "./byte-set.ts";
import { isLinearByBacktracking } from "./linear.ts";
import { compilePattern } from "./loaded.ts";
import type { Pattern } from "./pattern.ts";
import { parsePattern, type Syntax } from "./syntax.ts";

const insensitive = { ignoreCase: true };

function compiled(text: string, options = insensitive): Pattern {
  const result = compilePattern(text, options);
  if (result.kind === "refused") throw new Error(`${text}: ${result.reason}`);
  return result.pattern;
}

describe("paths that people write", () => {
  for (const [text, bytes, want, engine] of [
    ["/something(/|$)(.*)", "/something/new/page", ["/something/new/page", "/", "new/page"], "RegExp"],
    ["/something(/|$)(.*)", "/something", ["/something", "", ""], "RegExp"],
    ["/something(/|$)(.*)", "/somethingelse", undefined, "RegExp"],
    ["/something(/|$)(.*)", "/SOMETHING/X", ["/SOMETHING/X", "/", "X"], "RegExp"],
    ["/foo/bar/[A-Z0-9]{3}", "/foo/bar/bar", ["/foo/bar/bar"], "RegExp"],
    [
      "/api/v[0-9]+/users/(\\d+)/(.*)$",
      "/api/v12/users/45/a/b",
      ["/api/v12/users/45/a/b", "45", "a/b"],
      "RegExp",
    ],
    ["/a/(.*)/b/(.*)", "/a/x/b/y/b/z", ["/a/x/b/y/b/z", "x/b/y", "z"], "RegExp"],
    ["/a/(.*)/b/(.*)$", "/a/x/b/y/b/z", ["/a/x/b/y/b/z", "x/b/y", "z"], "RE2"],
    ["/(?:[a-z]+/)*end", "/a/b/end", ["/a/b/end"], "RE2"],
    ["/(?<version>v\\d)/(?P<rest>.*)", "/v1/x", ["/v1/x", "v1", "x"], "RegExp"],
    ["/x[^/]*?\\.php", "/xyz.PHP", ["/xyz.PHP"], "RegExp"],
    ["/\\Qa.b*\\E/c", "/a.b*/C", ["/a.b*/C"], "RegExp"],
    ["/(?-i:Case)/x", "/case/x", undefined, "RegExp"],
    ["/(?-i)Case|/other", "/OTHER", undefined, "RegExp"],
    ["/[[:alpha:]_-]+[^[:space:]]", "/ab_-1", ["/ab_-1"], "RegExp"],
    ["/caf\u00e9", "/caf\u00c3\u00a9", ["/caf\u00c3\u00a9"], "RegExp"],
    ["/a{,3}", "/a{,3}", ["/a{,3}"], "RegExp"],
    ["", "/anything", [""], "RegExp"],
    ["/exact$", "/exact\n", undefined, "RegExp"],
  ] as const) {
    test(`${text} on ${JSON.stringify(bytes)}`, () => {
      const pattern = compiled(text);
      expect(pattern.match(bytes)).toEqual(want);
      expect(pattern.test(bytes)).toBe(want !== undefined);
      expect(pattern.engine).toBe(engine);
    });
  }
});

describe("what cannot run in linear time, or is no regular expression, is refused by name", () => {
  for (const [text, reason] of [
    ["/(?=x)", "lookahead"],
    ["/(?!api).*", "negative lookahead"],
    ["/(?<=x)y", "lookbehind"],
    ["/(?<!x)y", "negative lookbehind"],
    ["/(a)\\1", "backreference"],
    ["/(?<n>a)\\k<n>", "backreference"],
    ["/(?P<n>a)(?P=n)", "backreference"],
    ["/a++", "possessive"],
    ["/(?>a+)", "atomic"],
    ["/(?R)", "recursion"],
    ["/(?1)", "recursion"],
    ["/(?(1)a|b)", "conditional"],
    ["/(*SKIP)", "verb"],
    ["/\\Kx", "match reset"],
    ["/\\p{L}", "Unicode property"],
    ["/(?x) a", "flag"],
    ["/(a", "no `)`"],
    ["/a)", "unmatched `)`"],
    ["/[a", "no `]`"],
    ["/[z-a]", "out of order"],
    ["*", "nothing to repeat"],
    ["/a**", "nothing to repeat"],
    ["/a{3,1}", "maximum"],
    ["/a{1001}", "limit"],
    ["/((a{100}){100}){100}", "too large"],
    ["/\\", "backslash"],
    ["/\\y", "unknown escape"],
    [`/${"a".repeat(5000)}`, "limit"],
    [`/${"(".repeat(200)}${")".repeat(200)}`, "deep"],
  ] as const) {
    test(text.slice(0, 30), () => {
      const result = compilePattern(text, insensitive);
      expect(result).toMatchObject({ kind: "refused", reason: expect.stringContaining(reason) });
    });
  }
});

/** Small patterns over a small alphabet, so that random texts do match. */
const syntaxText = fc.letrec<{ pattern: string }>((tie) => ({
  pattern: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    fc.constantFrom("a", "b", "/", ".", "[ab]", "[^/]", "\\d", "1", "$", "\\b", "^"),
    fc.tuple(tie("pattern"), tie("pattern")).map(([left, right]) => left + right),
    fc.tuple(tie("pattern"), tie("pattern")).map(([left, right]) => `(?:${left}|${right})`),
    fc.tuple(tie("pattern"), tie("pattern")).map(([left, right]) => `(${left}|${right})`),
    tie("pattern").map((inner) => `(${inner})`),
    fc
      .tuple(tie("pattern"), fc.constantFrom("*", "+", "?", "{0,2}", "{2}", "*?", "+?"))
      .map(([inner, count]) => `(?:${inner})${count}`),
    fc.constantFrom("a*", "[ab]+", ".*", "[^/]*", ".*?", "b?"),
  ),
})).pattern;
const texts = fc.string({ unit: fc.constantFrom("a", "b", "/", "1", "A", "\n"), maxLength: 12 });

test("the two engines agree on every pattern that is given to RegExp", () => {
  let native = 0;
  fc.assert(
    fc.property(syntaxText, texts, (text, bytes) => {
      const result = compilePattern(text, insensitive);
      if (result.kind === "refused" || result.pattern.engine !== "RegExp") return;
      native++;
      const matcher = RE2JS.compile(`(?i)${text.replaceAll("$", "\\z")}`).matcher(bytes);
      const want = matcher.lookingAt()
        ? Array.from({ length: result.pattern.captures + 1 }, (_, index) => matcher.group(index) ?? "")
        : undefined;
      expect(result.pattern.match(bytes)).toEqual(want);
    }),
    { numRuns: 20_000 },
  );
  expect(native).toBeGreaterThan(5_000);
});

test("what is proved linear takes a backtracking engine a number of steps in proportion to the text", () => {
  fc.assert(
    fc.property(
      syntaxText,
      fc.string({ unit: fc.constantFrom("a", "b", "/", "1"), minLength: 1, maxLength: 6 }),
      (text, unit) => {
        const parsed = parsePattern(text, insensitive);
        if (parsed.kind === "refused" || !isLinearByBacktracking(parsed.syntax)) return;
        const bytes = unit.repeat(Math.ceil(240 / unit.length));
        // 64 paths, each over the text a few times for every loop: far below what a quadratic pattern needs (57 600 × its size).
        expect(backtrackingSteps(parsed.syntax, bytes)).toBeLessThanOrEqual(
          64 * (bytes.length + 1) * (text.length + 1),
        );
      },
    ),
    { numRuns: 5_000 },
  );
});

test("known superlinear shapes are not proved linear", () => {
  for (const text of [
    "(a*)*b",
    "(a|a)*b",
    "a*a*b",
    ".*.*x",
    ".*a[^b]*b",
    "(a+)+$",
    "(?:a?){50}a{50}",
    "(.*)/(.*)/x",
  ]) {
    const parsed = parsePattern(text, insensitive);
    if (parsed.kind === "refused") throw new Error(parsed.reason);
    expect(isLinearByBacktracking(parsed.syntax), text).toBe(false);
  }
});

/** Steps that a plain backtracking matcher takes, by continuation passing over the tree. */
function backtrackingSteps(syntax: Syntax, bytes: string): number {
  let steps = 0;
  const run = (node: Syntax, at: number, next: (at: number) => boolean): boolean => {
    steps++;
    if (steps > 5_000_000) return true;
    switch (node.kind) {
      case "bytes":
        return at < bytes.length && node.set.has(bytes.charCodeAt(at)) && next(at + 1);
      case "assertion":
        return holds(node.at, at) && next(at);
      case "capture":
        return run(node.item, at, next);
      case "sequence": {
        const from = (index: number, position: number): boolean => {
          const item = node.items[index];
          return item === undefined ? next(position) : run(item, position, (after) => from(index + 1, after));
        };
        return from(0, at);
      }
      case "choice":
        return node.options.some((option) => run(option, at, next));
      case "repeat": {
        const round = (done: number, position: number): boolean => {
          const again = () =>
            done < node.max &&
            run(node.item, position, (after) =>
              after === position && done >= node.min ? false : round(done + 1, after),
            );
          if (done < node.min) return again();
          return node.greedy ? again() || next(position) : next(position) || again();
        };
        return round(0, at);
      }
      default:
        return node satisfies never;
    }
  };
  const word = (at: number) => at >= 0 && at < bytes.length && /\w/.test(bytes[at] ?? "");
  const holds = (assertion: (Syntax & { kind: "assertion" })["at"], at: number): boolean => {
    switch (assertion) {
      case "start":
        return at === 0;
      case "end":
        return at === bytes.length;
      case "word boundary":
        return word(at - 1) !== word(at);
      case "not a word boundary":
        return word(at - 1) === word(at);
      default:
        return assertion satisfies never;
    }
  };
  run(syntax, 0, () => true);
  return steps;
}

test("byte sets are exact", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20 }), fc.uint8Array({ maxLength: 20 }), (left, right) => {
      const a = ByteSet.of(String.fromCharCode(...left));
      const b = ByteSet.of(String.fromCharCode(...right));
      for (let byte = 0; byte < 256; byte++) {
        expect(a.has(byte)).toBe(left.includes(byte));
        expect(a.union(b).has(byte)).toBe(a.has(byte) || b.has(byte));
        expect(a.complement().has(byte)).toBe(!a.has(byte));
        expect(a.without(b).has(byte)).toBe(a.has(byte) && !b.has(byte));
        expect(a.ranges().some(([first, last]) => byte >= first && byte <= last)).toBe(a.has(byte));
      }
    }),
    { numRuns: 50 },
  );
});
