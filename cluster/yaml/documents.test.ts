import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ManifestDocument } from "./document.ts";
import { type DocumentOptions, readDocuments } from "./documents.ts";

function read(text: string, options?: DocumentOptions): readonly ManifestDocument[] {
  return [...readDocuments(text, options)];
}

/** Values of the documents that could be read, and `line: reason` of the others. */
function outcome(text: string, options?: DocumentOptions): readonly unknown[] {
  return read(text, options).map((document) =>
    document.kind === "read" ? document.value : `${document.line}: ${document.reason}`,
  );
}

describe("documents of a text", () => {
  test.each<[string, string, readonly unknown[]]>([
    ["nothing", "", []],
    ["blanks", " \n\n\t\n", []],
    ["comments only", "# a\n---\n# b\n", []],
    ["one", "a: 1\n", [{ a: 1 }]],
    ["no line break at the end", "a: 1", [{ a: 1 }]],
    ["several", "a: 1\n---\nb: 2\n---\n---\nc: 3\n", [{ a: 1 }, { b: 2 }, { c: 3 }]],
    ["a separator with a comment", "a: 1\n--- # next\nb: 2\n", [{ a: 1 }, { b: 2 }]],
    ["content on the separator's line", "--- {a: 1}\n--- [2]\n", [{ a: 1 }, [2]]],
    ["an end mark", "a: 1\n...\nb: 2\n", [{ a: 1 }, { b: 2 }]],
    ["directives", "%YAML 1.2\n---\na: 1\n", [{ a: 1 }]],
    ["dashes that are no separator", "a: |\n  ---\n  x\nb: '--- x'\n", [{ a: "---\nx\n", b: "--- x" }]],
    ["four dashes are a word", "a: 1\nb:\n  ----\n", [{ a: 1, b: "----" }]],
    ["CRLF", "a: 1\r\nb: |\r\n  x\r\n  y\r\n---\r\nc: 2\r\n", [{ a: 1, b: "x\ny\n" }, { c: 2 }]],
    ["CR alone", "a: 1\rb: 2\r", [{ a: 1, b: 2 }]],
    ["JSON", '{"a": [1, {"b": null}]}', [{ a: [1, { b: null }] }]],
    ["JSON values in a row", '{"a": 1}\n{"b": 2} {"c": "}{"}\n', [{ a: 1 }, { b: 2 }, { c: "}{" }]],
    ["JSON among YAML", 'a: 1\n---\n{"b": 2}\n---\nc: 3\n', [{ a: 1 }, { b: 2 }, { c: 3 }]],
    ["YAML that begins like JSON", "{a: 1}\n---\nb: 2\n", [{ a: 1 }, { b: 2 }]],
    ["a scalar", "hello\n", ["hello"]],
    ["a list", "- 1\n- 2\n", [[1, 2]]],
    ["anchors", "a: &x {p: 1}\nb: *x\n", [{ a: { p: 1 }, b: { p: 1 } }]],
    ["a merge key", "a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n", [{ a: { p: 1, q: 2 }, b: { q: 3, p: 1 } }]],
    ["a folded text", "a: >-\n  x\n  y\n", [{ a: "x y" }]],
    ["tags", "a: !!str 5\nb: !!int '5'\nc: ! on\n", [{ a: "5", b: 5, c: true }]],
    ["words of YAML 1.1", "on: yes\nmode: 0777\ntime: 12:30\n", [{ true: true, mode: 511, time: "12:30" }]],
    [
      "keys that JavaScript has by heart",
      "constructor: 1\ntoString: {__proto__: 2}\n",
      [{ constructor: 1, toString: JSON.parse('{"__proto__": 2}') }],
    ],
  ])("%s", (_name, text, want) => {
    expect(JSON.stringify(outcome(text))).toBe(JSON.stringify(want));
  });

  test("a document knows its line", () => {
    const text = "# head\n\na: 1\n---\n\n# note\nb: 2\n--- {c: 3}\n";
    expect(read(text).map((document) => document.line)).toEqual([3, 7, 8]);
  });
});

describe("a broken document costs only itself", () => {
  test.each<[string, string, readonly unknown[]]>([
    [
      "an unclosed quote",
      "a: 1\n---\nb: 'x\n---\nc: 3\n",
      [{ a: 1 }, expect.stringMatching(/^4: .*quote/), { c: 3 }],
    ],
    ["an unclosed bracket", "a: [1,\n---\nb: 2\n", [expect.stringMatching(/^\d: /), { b: 2 }]],
    ["a tab as indentation", "a:\n\tb: 1\n---\nc: 2\n", [expect.stringMatching(/^2: .*tab/i), { c: 2 }]],
    ["a mapping in a line", "a: b: c\n---\nd: 1\n", [expect.stringMatching(/^1: /), { d: 1 }]],
    ["wrong indentation", "a:\n    b: 1\n  c: 2\n---\nd: 1\n", [expect.stringMatching(/^3: /), { d: 1 }]],
    ["an alias without anchor", "a: *x\n---\nb: 1\n", ["1: the alias *x names no anchor", { b: 1 }]],
    ["an alias within itself", "a: &x [*x]\n---\nb: 1\n", ["1: the alias *x stands within itself", { b: 1 }]],
    [
      "a NUL byte",
      "a: 1\nb: \u0000\n---\nc: 1\n",
      ["2: it holds a NUL byte, which YAML does not allow", { c: 1 }],
    ],
    [
      "another control character",
      "a: \u001b[31m\n",
      ["1: it holds the control character 0x1b, which YAML does not allow"],
    ],
    ["a null key", "~: 1\n---\nb: 1\n", ["1: a key is null, and JSON has only text as keys", { b: 1 }]],
    [
      "a list as key",
      "? [a]\n: 1\n---\nb: 1\n",
      ["1: a key is a list, and JSON has only text as keys", { b: 1 }],
    ],
    [
      "a template of Helm",
      "{{ if .Values.x }}\na: 1\n---\nb: 1\n",
      [expect.stringMatching(/^\d: /), { b: 1 }],
    ],
    [
      "a value that does not fit its tag",
      "a: !!int x\n---\nb: 1\n",
      [expect.stringMatching(/^1: "x" does not fit/), { b: 1 }],
    ],
  ])("%s", (_name, text, want) => {
    expect(outcome(text)).toEqual(want);
  });

  test("bytes that are no text are told where they are", () => {
    expect(outcome("a: 1\n---\nb: \ufffd\n---\nc: \n d: \ufffd", { notUtf8: true })).toEqual([
      { a: 1 },
      "3: it holds bytes that are not UTF-8 text",
      "6: it holds bytes that are not UTF-8 text",
    ]);
    expect(outcome("a: \ufffd\n")).toEqual([{ a: "\ufffd" }]);
  });

  test("JSON files are judged as JSON", () => {
    expect(outcome("a: 1", { json: true })).toEqual([expect.stringMatching(/^1: it is not JSON: /)]);
    expect(outcome('{\n"a": 1,\n}', { json: true })).toEqual([expect.stringMatching(/^3: it is not JSON: /)]);
    expect(outcome('{"a": 1}\n{"b": }\n{"c": 3}', { json: true })).toEqual([
      { a: 1 },
      expect.stringMatching(/^2: it is not JSON: /),
      { c: 3 },
    ]);
  });
});

/** Each of these has ended or blown up some YAML reader. They take milliseconds here; the suite's time limit is the test. */
describe("hostile texts end quickly with a reason", () => {
  const million = 1024 * 1024;
  const bomb = [
    "a0: &a0 [x, x, x, x, x, x, x, x, x, x]",
    ...Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`).join(", ")}]`),
  ].join("\n");
  test.each<[string, string, readonly unknown[]]>([
    ["aliases that explode", bomb, [expect.stringMatching(/aliases stand for more than 100000 values/)]],
    ["brackets in brackets", `a: ${"[".repeat(million)}`, [expect.stringMatching(/^1: it is nested deeper/)]],
    ["braces in braces", `${"{a: ".repeat(100_000)}`, [expect.stringMatching(/^1: it is nested deeper/)]],
    ["lists in lists", `${"- ".repeat(100_000)}x`, [expect.stringMatching(/^1: it is nested deeper/)]],
    ["keys in keys", `${"? ".repeat(100_000)}x`, [expect.stringMatching(/^1: it is nested deeper/)]],
    [
      "maps in maps",
      Array.from({ length: 2000 }, (_, i) => `${" ".repeat(i)}a:`).join("\n"),
      [expect.stringMatching(/nested/)],
    ],
    ["20 MB of one letter", "x".repeat(20 * million), [expect.stringMatching(/broken YAML, or/)]],
    ["20 MB of words", "lorem ipsum: dolor, ".repeat(million), [expect.stringMatching(/broken YAML, or/)]],
    [
      "20 MB of a quote that never ends",
      `a: "${"x\n".repeat(10 * million)}`,
      [expect.stringMatching(/broken YAML, or/)],
    ],
    ["20 MB of lines without a colon", `a:\n${"- b\n".repeat(5 * million)}`, [{ a: expect.any(Array) }]],
    ["20 MB of separators", "---\n".repeat(5 * million), []],
    ["20 MB of comments", `${"#\n".repeat(10 * million)}a: 1`, [{ a: 1 }]],
    ["20 MB of one key", "a: 1\n".repeat(4 * million), [{ a: 1 }]],
    ["JSON in JSON", `${'{"a":'.repeat(million)}`, [expect.any(String)]],
  ])("%s", (_name, text, want) => {
    expect(outcome(text)).toEqual(want);
  });

  test("any text at all", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
        for (const document of readDocuments(text)) expect(document.line).toBeGreaterThan(0);
      }),
      { numRuns: 500 },
    );
  });
});
