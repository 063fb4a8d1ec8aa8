/**
 * The allowed arrows between folders: who may know whom. ARCHITECTURE.md says why; this list decides.
 *
 * Type imports count like any other: a type that crosses a border binds two parts as surely as a function.
 */

import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");

/** Folder → folders that its files may import from, beside itself. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  "edge-config": [],
  cluster: [],
  control: ["cluster", "edge-config"],
  worker: ["edge-config"],
  gateway: ["edge-config"],
  "wasm-nat": [],
  agent: ["cluster", "wasm-nat"],
};

/** Single files that may cross where their folder may not, with the reason. */
const EXCEPTIONS: Readonly<Record<string, readonly string[]>> = {
  // `explain` answers with the very code that serves: pure modules that know nothing of Cloudflare.
  "control/explain.ts": ["worker/filter-order.ts", "worker/path.ts", "worker/table.ts"],
};

interface Arrow {
  readonly from: string;
  readonly to: string;
}

/** Every relative import of a text, static, dynamic or of a type. Comments are no imports. */
function importsOf(file: string, text: string): readonly Arrow[] {
  const code = text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/^\s*\/\/.*$/gm, "");
  const specifiers = [...code.matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*)["'](\.{1,2}\/[^"']+)["']/g)].map(
    (match) => match[1] ?? "",
  );
  return specifiers.map((specifier) => ({ from: file, to: join(dirname(file), specifier) }));
}

function forbidden(arrows: readonly Arrow[]): readonly Arrow[] {
  return arrows.filter(({ from, to }) => {
    const [source = ""] = from.split("/");
    const [target = ""] = to.split("/");
    const allowed = ALLOWED[source];
    if (allowed === undefined || source === target || allowed.includes(target)) return false;
    return !EXCEPTIONS[from]?.includes(to);
  });
}

const files = Object.keys(ALLOWED).flatMap((folder) => globSync(`${folder}/**/*.{ts,mjs}`, { cwd: root }));
// Tests may build what they need from anywhere.
const sources = files.filter((file) => !file.includes("node_modules") && !file.endsWith(".test.ts"));

describe("imports between folders", () => {
  test("there is something to look at", () => {
    expect(sources.length).toBeGreaterThan(100);
  });

  test("no arrow crosses a border that is closed", () => {
    const arrows = sources.flatMap((file) =>
      importsOf(relative(".", file), readFileSync(join(root, file), "utf8")),
    );
    expect(forbidden(arrows).map(({ from, to }) => `${from} → ${to}`)).toEqual([]);
  });

  test("every exception is in use", () => {
    for (const [file, targets] of Object.entries(EXCEPTIONS)) {
      const used = importsOf(file, readFileSync(join(root, file), "utf8")).map(({ to }) => to);
      expect(
        targets.filter((target) => !used.includes(target)),
        file,
      ).toEqual([]);
    }
  });

  test("edge-config names no package but the regular expression engine", () => {
    const packages = sources
      .filter((file) => file.startsWith("edge-config/"))
      .flatMap((file) => [...readFileSync(join(root, file), "utf8").matchAll(/\bfrom\s+"([^."][^"]*)";$/gm)])
      .map((match) => match[1]);
    expect(new Set(packages)).toEqual(new Set(["re2js"]));
  });

  test.each([
    ["worker/x.ts", 'import { a } from "../cluster/model.ts";', 1],
    ["worker/x.ts", 'import type { A } from "../control/edge.ts";', 1],
    ["worker/filters/x.ts", 'const a = await import("../../agent/main.ts");', 1],
    ["control/x.ts", 'export { a } from "../agent/main.ts";', 1],
    ["control/x.ts", 'import { a } from "../worker/match.ts";', 1],
    ["control/x.ts", '// import { a } from "../agent/main.ts";', 0],
    ["cli/x.ts", 'import { a } from "../agent/main.ts";', 0],
    ["worker/filters/x.ts", 'import { a } from "../edge.ts";', 0],
  ])("%s with %s: %d wrong", (file, text, count) => {
    expect(forbidden(importsOf(file, text))).toHaveLength(count);
  });
});
