/**
 * May a backtracking engine run this pattern in time linear in the text? A proof, not a guess: `true` only
 * when the shape of the pattern rules out everything that makes backtracking superlinear.
 *
 * Why at all: V8's RegExp is about 25 times as fast as a linear-time engine written in JavaScript, and nearly
 * every path that people write (`/app(/|$)(.*)`, `/v[0-9]+/users/(\d+)`) is harmless. The rest goes to RE2.
 *
 * The argument. A start-anchored backtracking match costs (ways to get to a place in the pattern) × (work from
 * there). Bounded choices multiply the ways by a constant, capped by `MAX_PATHS`. An unbounded loop is taken
 * only over single bytes, and then is one of three:
 * - *accepting*: what follows can succeed at once, so the loop is never resumed;
 * - *deterministic*: no byte of the loop can begin what follows, so each resumption fails at its first byte:
 *   as many steps again as the loop took;
 * - *ambiguous*: each of its O(n) exits may be tried, which is linear only if no loop that can fail comes after.
 */

import { ByteSet } from "./byte-set.ts";
import type { Syntax } from "./syntax.ts";

const MAX_PATHS = 64;

/** What may come from a place in the pattern to its end. */
interface Follow {
  readonly first: ByteSet;
  /** The end of the pattern may be reached without another byte. */
  readonly nullable: boolean;
  /** … and without any condition: arriving here is success. */
  readonly accepts: boolean;
  /** An unbounded loop that can fail comes after. */
  readonly loops: boolean;
}

interface Analysis extends Follow {
  /** Bounded choices inside, multiplied out. */
  readonly paths: number;
}

/** True when a start-anchored backtracking match of `syntax` takes time linear in the text, with PCRE's captures. */
export function isLinearByBacktracking(syntax: Syntax): boolean {
  const end: Follow = { first: ByteSet.empty, nullable: true, accepts: true, loops: false };
  const analysis = analyse(syntax, end);
  return analysis !== undefined && analysis.paths <= MAX_PATHS;
}

/** Undefined: not provably linear. */
function analyse(syntax: Syntax, follow: Follow): Analysis | undefined {
  switch (syntax.kind) {
    case "bytes":
      return { first: syntax.set, nullable: false, accepts: false, loops: follow.loops, paths: 1 };
    case "assertion":
      // Behind `$` no byte can come, so whatever resumed in front of it fails there at once.
      if (syntax.at === "end") {
        return { first: ByteSet.empty, nullable: false, accepts: false, loops: follow.loops, paths: 1 };
      }
      return { ...follow, accepts: false, paths: 1 };
    case "capture":
      return analyse(syntax.item, follow);
    case "sequence": {
      let rest: Analysis = { ...follow, paths: 1 };
      for (const item of syntax.items.toReversed()) {
        const analysis = analyse(item, rest);
        if (analysis === undefined) return undefined;
        rest = { ...analysis, paths: analysis.paths * rest.paths };
      }
      return rest;
    }
    case "choice":
      return analyseChoice(syntax.options, follow);
    case "repeat":
      return syntax.max === Number.POSITIVE_INFINITY
        ? analyseLoop(syntax, follow)
        : analyseCount(syntax, follow);
    default:
      return syntax satisfies never;
  }
}

function analyseChoice(options: readonly Syntax[], follow: Follow): Analysis | undefined {
  let union: Analysis = { first: ByteSet.empty, nullable: false, accepts: false, loops: false, paths: 0 };
  let exclusive = true;
  for (const option of options) {
    const analysis = analyse(option, follow);
    if (analysis === undefined) return undefined;
    exclusive &&= !analysis.nullable && analysis.first.isDisjointFrom(union.first);
    union = {
      first: union.first.union(analysis.first),
      nullable: union.nullable || analysis.nullable,
      accepts: union.accepts || analysis.accepts,
      loops: union.loops || analysis.loops,
      paths: exclusive ? Math.max(union.paths, analysis.paths) : union.paths + analysis.paths,
    };
  }
  return union;
}

function analyseLoop(loop: Syntax & { readonly kind: "repeat" }, follow: Follow): Analysis | undefined {
  if (loop.item.kind !== "bytes") return undefined;
  const set = loop.item.set;
  const skippable = loop.min === 0;
  const after = {
    first: skippable ? set.union(follow.first) : set,
    nullable: skippable && follow.nullable,
    accepts: skippable && follow.accepts,
    paths: 1,
  };
  if (follow.accepts) return { ...after, loops: follow.loops };
  const deterministic = !follow.nullable && set.isDisjointFrom(follow.first);
  if (!deterministic && follow.loops) return undefined;
  return { ...after, loops: true };
}

function analyseCount(count: Syntax & { readonly kind: "repeat" }, follow: Follow): Analysis | undefined {
  // Each copy but the last is followed by another copy, so the item is judged before the union of both.
  const item = analyse(count.item, count.max > 1 ? { ...follow, accepts: false } : follow);
  if (item === undefined) return undefined;
  // Engines differ in what a repeated group captures and in how they leave an empty round.
  if (isNullable(count.item)) return undefined;
  if (count.max > 1 && (hasCapture(count.item) || hasLoop(count.item))) return undefined;
  const skippable = count.min === 0 || count.max === 0;
  const deterministic = !follow.nullable && item.first.isDisjointFrom(follow.first);
  const exits = deterministic ? 1 : count.max - count.min + 1;
  return {
    first: skippable ? item.first.union(follow.first) : item.first,
    nullable: skippable ? follow.nullable || item.nullable : item.nullable,
    accepts: skippable && follow.accepts,
    loops: item.loops || follow.loops,
    paths: item.paths ** Math.max(1, count.max) * exits,
  };
}

function some(syntax: Syntax, test: (node: Syntax) => boolean): boolean {
  if (test(syntax)) return true;
  switch (syntax.kind) {
    case "sequence":
      return syntax.items.some((item) => some(item, test));
    case "choice":
      return syntax.options.some((option) => some(option, test));
    case "repeat":
    case "capture":
      return some(syntax.item, test);
    default:
      return false;
  }
}

function hasCapture(syntax: Syntax): boolean {
  return some(syntax, (node) => node.kind === "capture");
}

function hasLoop(syntax: Syntax): boolean {
  return some(syntax, (node) => node.kind === "repeat" && node.max === Number.POSITIVE_INFINITY);
}

function isNullable(syntax: Syntax): boolean {
  switch (syntax.kind) {
    case "bytes":
      return false;
    case "assertion":
      return true;
    case "capture":
      return isNullable(syntax.item);
    case "sequence":
      return syntax.items.every(isNullable);
    case "choice":
      return syntax.options.some(isNullable);
    case "repeat":
      return syntax.min === 0 || isNullable(syntax.item);
    default:
      return syntax satisfies never;
  }
}
