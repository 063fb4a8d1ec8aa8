/**
 * Which route of a host a normalised path meets.
 *
 * In: the host's routes, in their order. Out: a matcher; it costs the same whatever the number of hosts, and
 * for Exact and Prefix routes the same whatever the number of paths. Not here: which host (`store.ts`), what
 * a route does (`table.ts`). Pure, and free of Cloudflare, for `fairlead explain`.
 *
 * A Prefix route `/foo` is kept as nginx keeps it: the exact path `/foo`, and the text prefix `/foo/`. So
 * "by path element" costs no more than comparing text.
 */

import type { HostConfig, Route } from "../edge-config/config.ts";
import { type CompiledPattern, compilePattern } from "../edge-config/pattern/pattern.ts";
import { utf8AsLatin1 } from "../edge-config/pattern/syntax.ts";

export type Match<E> =
  | { readonly kind: "route"; readonly entry: E }
  /** `matching: "nginx"` only: the path lacks the slash with which the rule's path ends; the answer is 301. */
  | { readonly kind: "trailingSlash"; readonly entry: E };

/** `undefined`: no route of the host matches, the answer is 404. */
export type Matcher<E> = (path: string) => Match<E> | undefined;

/** `entries[i]` stands for `routes[i]`. */
export function compileMatcher<E>(
  matching: HostConfig["matching"],
  routes: readonly Route[],
  entries: readonly E[],
): Matcher<E> {
  const places: Place<E>[] = [];
  routes.forEach((route, index) => {
    const entry = entries[index];
    if (entry !== undefined) places.push({ route, path: utf8AsLatin1(route.path), entry });
  });
  switch (matching) {
    case "kubernetes":
      return pathMatcher(places, false);
    case "nginx":
      return pathMatcher(places, true);
    case "regex":
      return regexMatcher(places);
    default:
      return matching satisfies never;
  }
}

interface Place<E> {
  readonly route: Route;
  readonly path: string;
  readonly entry: E;
}

/** Up to this many prefixes are compared one after the other, which is quicker than cutting the path for a look-up. */
const MAX_SCANNED_PREFIXES = 12;

function pathMatcher<E>(places: readonly Place<E>[], redirectsToSlash: boolean): Matcher<E> {
  const exact = new Map<string, Match<E>>();
  const prefixes = new Map<string, Match<E>>();
  const add = (map: Map<string, Match<E>>, path: string, match: Match<E>): void => {
    if (!map.has(path)) map.set(path, match);
  };
  // In the order of their claim to the path itself: Exact, then a Prefix as written, then one that ends in a slash.
  for (const { route, path, entry } of places) {
    if (route.pathType === "Exact") add(exact, path, { kind: "route", entry });
  }
  for (const { route, path, entry } of places) {
    if (route.pathType !== "Prefix") continue;
    const match: Match<E> = { kind: "route", entry };
    if (path.endsWith("/")) {
      add(prefixes, path, match);
    } else {
      add(exact, path, match);
      add(prefixes, `${path}/`, match);
    }
  }
  for (const { route, path, entry } of places) {
    if (path === "/" || !path.endsWith("/")) continue;
    if (redirectsToSlash) add(exact, path.slice(0, -1), { kind: "trailingSlash", entry });
    else if (route.pathType === "Prefix") add(exact, path.slice(0, -1), { kind: "route", entry });
  }

  const longestFirst = [...prefixes].sort(([left], [right]) => right.length - left.length);
  const maxPrefixLength = longestFirst[0]?.[0].length ?? 0;
  if (longestFirst.length <= MAX_SCANNED_PREFIXES) {
    const texts = longestFirst.map(([text]) => text);
    const matches = longestFirst.map(([, match]) => match);
    return (path) => {
      const found = exact.get(path);
      if (found !== undefined) return found;
      for (let index = 0; index < texts.length; index++) {
        if (path.startsWith(texts[index] as string)) return matches[index];
      }
      return undefined;
    };
  }
  return (path) => {
    const found = exact.get(path);
    if (found !== undefined) return found;
    // No prefix is longer than the longest, so a path of a thousand elements costs no more than a short one.
    let slash = path.lastIndexOf("/", maxPrefixLength - 1);
    while (slash >= 0) {
      const match = prefixes.get(path.slice(0, slash + 1));
      if (match !== undefined || slash === 0) return match;
      slash = path.lastIndexOf("/", slash - 1);
    }
    return undefined;
  };
}

/**
 * Every route is a start-anchored, case-insensitive pattern; the first one in order that matches is taken.
 * A Prefix route that is plain text, without metacharacters, is a pattern like any other: `/foo` takes `/foobar`.
 * Control refuses patterns that the engine refuses; should one come all the same, it matches nothing.
 */
function regexMatcher<E>(places: readonly Place<E>[]): Matcher<E> {
  const candidates = places.map(({ path, entry }) => ({
    test: lazyPattern(path),
    match: { kind: "route", entry } satisfies Match<E>,
  }));
  return (path) => candidates.find(({ test }) => test(path))?.match;
}

/** Compiled at its first use: a cold isolate pays for the patterns that stand before its own route, not for all. */
function lazyPattern(text: string): (path: string) => boolean {
  let compiled: CompiledPattern | undefined;
  return (path) => {
    compiled ??= compilePattern(text, { ignoreCase: true });
    return compiled.kind === "pattern" && compiled.pattern.test(path);
  };
}
