/** Diagnostics in order of object, field and text, each once; in a form from which some can be taken and to which some can be added. */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import { SortedMap } from "../../cluster/sorted-map.ts";
import { compareText } from "./order.ts";

/** By what they are sorted by; `count`: how often it was said. */
export type Told = SortedMap<string, { readonly diagnostic: Diagnostic; readonly count: number }>;

function keyOf({ kind, object, field = "", severity, message }: Diagnostic): string {
  return [kind, object, field, severity, message].join("\u0000");
}

export function tell(diagnostics: readonly Diagnostic[]): Told {
  return retell(SortedMap.from<string, never>([]), [], diagnostics);
}

export function retell(told: Told, dropped: readonly Diagnostic[], added: readonly Diagnostic[]): Told {
  const changes = new Map<string, { readonly diagnostic: Diagnostic; readonly count: number } | undefined>();
  const count = (diagnostic: Diagnostic, by: 1 | -1): void => {
    const key = keyOf(diagnostic);
    const before = changes.has(key) ? changes.get(key) : told.get(key);
    const sum = (before?.count ?? 0) + by;
    const stood = told.get(key);
    if (sum <= 0) changes.set(key, undefined);
    // What is said as often as before is the very same: so is the whole, then.
    else if (sum === stood?.count) changes.set(key, stood);
    else changes.set(key, { diagnostic: before?.diagnostic ?? diagnostic, count: sum });
  };
  // Added first: what is dropped and said again is there all the time.
  for (const diagnostic of added) count(diagnostic, 1);
  for (const diagnostic of dropped) count(diagnostic, -1);
  return told.with(changes);
}

/** As a list, with further ones in their places. */
export function listTold(told: Told, further: readonly Diagnostic[] = []): readonly Diagnostic[] {
  const merged: Diagnostic[] = [];
  const others = [...tell(further)];
  let at = 0;
  for (const [key, { diagnostic }] of told) {
    for (let next = others[at]; next !== undefined && next[0] <= key; next = others[++at])
      if (next[0] !== key) merged.push(next[1].diagnostic);
    merged.push(diagnostic);
  }
  for (const [, { diagnostic }] of others.slice(at)) merged.push(diagnostic);
  return merged;
}

/** By object, field and text; each once. */
export function sortDiagnostics(diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  const byKey = new Map(diagnostics.map((diagnostic) => [keyOf(diagnostic), diagnostic]));
  return [...byKey].sort(([a], [b]) => compareText(a, b)).map(([, diagnostic]) => diagnostic);
}
