/**
 * A user's regular expression, ready to match bytes from their start in time linear in their number.
 *
 * In: PCRE text (an Ingress path, a canary pattern, …). Out: a matcher, or why the text is refused.
 * V8's RegExp runs what `linear.ts` proves harmless; RE2 (the `re2js` package) runs everything else.
 * Both are given the same syntax tree of byte sets, so they agree; `pattern.test.ts` holds that.
 * The control service compiles each pattern once to refuse it early, the Worker to run it.
 *
 * RE2 is large and most edges never need it, so it is loaded on demand: `await loadRe2()` before the first
 * `compilePattern` that may meet a pattern of users.
 */

import type { RE2JS } from "re2js";
import { isLinearByBacktracking } from "./linear.ts";
import { parsePattern, type Syntax } from "./syntax.ts";

export interface Pattern {
  /** Number of capture groups. */
  readonly captures: number;
  /** Which engine runs it; for tests and `explain`. */
  readonly engine: "RegExp" | "RE2";
  /** Does a match begin at the first byte of `bytes` (a Latin-1 string)? */
  test(bytes: string): boolean;
  /** The match at the first byte: whole match first, then the groups; a group that took no part is empty. */
  match(bytes: string): readonly string[] | undefined;
}

export type CompiledPattern =
  | { readonly kind: "pattern"; readonly pattern: Pattern }
  | { readonly kind: "refused"; readonly reason: string };

let re2: typeof RE2JS | undefined;

/** Makes `compilePattern` able to take every pattern. */
export async function loadRe2(): Promise<void> {
  re2 ??= (await import("re2js")).RE2JS;
}

export interface PatternOptions {
  readonly ignoreCase: boolean;
}

/** Compiles `text`; `reason` completes "the pattern …". Throws where `loadRe2` was forgotten. */
export function compilePattern(text: string, options: PatternOptions): CompiledPattern {
  const parsed = parsePattern(text, options);
  if (parsed.kind === "refused") return parsed;
  const { syntax, captures } = parsed;
  if (isLinearByBacktracking(syntax)) {
    return {
      kind: "pattern",
      pattern: nativePattern(new RegExp(`^(?:${render(syntax, "RegExp")})`), captures),
    };
  }
  if (re2 === undefined) throw new Error("loadRe2 was not awaited before a pattern was compiled");
  try {
    return { kind: "pattern", pattern: re2Pattern(re2.compile(render(syntax, "RE2")), captures) };
  } catch (error) {
    return {
      kind: "refused",
      reason: `is refused by RE2 (${error instanceof Error ? error.message : String(error)})`,
    };
  }
}

function nativePattern(expression: RegExp, captures: number): Pattern {
  return {
    captures,
    engine: "RegExp",
    test: (bytes) => expression.test(bytes),
    match: (bytes) => expression.exec(bytes)?.map((group) => group ?? ""),
  };
}

function re2Pattern(expression: RE2JS, captures: number): Pattern {
  return {
    captures,
    engine: "RE2",
    test: (bytes) => expression.matcher(bytes).lookingAt(),
    match: (bytes) => {
      const matcher = expression.matcher(bytes);
      if (!matcher.lookingAt()) return undefined;
      return Array.from({ length: captures + 1 }, (_, index) => matcher.group(index) ?? "");
    },
  };
}

/** The tree in the notation of one engine: explicit sets only, so that no flag and no shorthand is left to interpret. */
function render(syntax: Syntax, engine: Pattern["engine"]): string {
  switch (syntax.kind) {
    case "bytes": {
      const ranges = syntax.set.ranges();
      // Neither engine has a portable empty set; a byte beyond the alphabet never comes.
      if (ranges.length === 0) return escapeCode(0x100, engine);
      const [only] = ranges;
      if (ranges.length === 1 && only !== undefined && only[0] === only[1])
        return escapeCode(only[0], engine);
      const items = ranges.map(([first, last]) =>
        first === last
          ? escapeCode(first, engine)
          : `${escapeCode(first, engine)}-${escapeCode(last, engine)}`,
      );
      return `[${items.join("")}]`;
    }
    case "sequence":
      return syntax.items.map((item) => render(item, engine)).join("");
    case "choice":
      return `(?:${syntax.options.map((option) => render(option, engine)).join("|")})`;
    case "capture":
      return `(${render(syntax.item, engine)})`;
    case "repeat": {
      const item =
        syntax.item.kind === "bytes" || syntax.item.kind === "capture"
          ? render(syntax.item, engine)
          : `(?:${render(syntax.item, engine)})`;
      const max = syntax.max === Number.POSITIVE_INFINITY ? "" : String(syntax.max);
      return `${item}{${syntax.min},${max}}${syntax.greedy ? "" : "?"}`;
    }
    case "assertion":
      switch (syntax.at) {
        case "start":
          return "^";
        case "end":
          return engine === "RE2" ? "\\z" : "$";
        case "word boundary":
          return "\\b";
        case "not a word boundary":
          return "\\B";
        default:
          return syntax.at satisfies never;
      }
    default:
      return syntax satisfies never;
  }
}

function escapeCode(code: number, engine: Pattern["engine"]): string {
  if (
    (code >= 48 && code <= 57) ||
    (code >= 65 && code <= 90) ||
    (code >= 97 && code <= 122) ||
    code === 47
  ) {
    return String.fromCharCode(code);
  }
  const hex = code.toString(16);
  return engine === "RE2" ? `\\x{${hex}}` : `\\u${hex.padStart(4, "0")}`;
}
