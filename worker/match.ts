/**
 * Which route of a host a normalised path meets.
 *
 * In: the host's routes, in their order. Out: a matcher; it costs the same whatever the number of hosts, and
 * for Exact and Prefix routes the same whatever the number of paths. Not here: which host (`store.ts`), what
 * a route does (`table.ts`). Pure, and free of Cloudflare, for `fairlead explain`.
 *
 * "By path element" costs no more than comparing text: a Prefix is kept without its last slash, and what follows it
 * in a path must be nothing or a slash.
 */

import type { HostConfig, Route } from "../edge-config/config.ts";
import { type CompiledPattern, compilePattern } from "../edge-config/pattern/pattern.ts";
import { utf8AsLatin1 } from "../edge-config/pattern/syntax.ts";

export type Match<E> =
  | { readonly kind: "route"; readonly entry: E }
  /** `matching: "nginx"` only: the path lacks the slash with which the rule's path ends; the answer is 301. */
  | { readonly kind: "trailingSlash"; readonly entry: E };

/** Finds what a normalised path meets. `undefined`: no route of the host matches, the answer is 404. */
export interface Matcher<E> {
  find(path: string): Match<E> | undefined;
}

/** `entries[i]` stands for `routes[i]`; the order is that of `HostConfig.routes`. */
export function compileMatcher<E>(
  matching: HostConfig["matching"],
  routes: readonly Route[],
  entries: readonly E[],
): Matcher<E> {
  switch (matching) {
    case "kubernetes":
      return new PathMatcher(routes, entries, false);
    case "nginx":
      return new PathMatcher(routes, entries, true);
    case "regex":
      return new PatternMatcher(routes, entries);
    default:
      return matching satisfies never;
  }
}

/** Up to this many prefixes are compared one after the other, which is quicker than cutting the path for a look-up. */
const MAX_SCANNED_PREFIXES = 12;

const SLASH = 0x2f;

/** Ten thousand hosts have one each, so it is made of few objects, and quickly. */
class PathMatcher<E> implements Matcher<E> {
  readonly #exact = new Map<string, Match<E>>();
  /** Without their last slash; longest first, since the routes are. */
  readonly #prefixes: string[] = [];
  /** `#prefixes[i]` leads to `#prefixMatches[i]`. */
  readonly #prefixMatches: Match<E>[] = [];
  /** The same by text, where there are many. */
  readonly #prefixIndex: ReadonlyMap<string, Match<E>> | undefined;

  constructor(routes: readonly Route[], entries: readonly E[], redirectsToSlash: boolean) {
    let endInSlash = 0;
    for (let index = 0; index < routes.length; index++) {
      const { path: written, pathType } = routes[index] as Route;
      const path = utf8AsLatin1(written);
      const match: Match<E> = { kind: "route", entry: entries[index] as E };
      const endsInSlash = path.charCodeAt(path.length - 1) === SLASH;
      if (endsInSlash && path !== "/") endInSlash++;
      if (pathType === "Exact") {
        this.#claim(path, match);
      } else {
        this.#prefixes.push(endsInSlash ? path.slice(0, -1) : path);
        this.#prefixMatches.push(match);
      }
    }
    if (endInSlash > 0) this.#claimWithoutSlash(routes, entries, redirectsToSlash);
    if (this.#prefixes.length > MAX_SCANNED_PREFIXES) this.#prefixIndex = this.#indexPrefixes();
  }

  #claim(path: string, match: Match<E>): void {
    if (!this.#exact.has(path)) this.#exact.set(path, match);
  }

  /** What `/foo` meets where a route is `/foo/`: an Exact or a Prefix of that very text, else nginx's redirect. */
  #claimWithoutSlash(routes: readonly Route[], entries: readonly E[], redirectsToSlash: boolean): void {
    routes.forEach(({ path: written }, index) => {
      const path = utf8AsLatin1(written);
      if (path === "/" || !path.endsWith("/")) return;
      const bare = path.slice(0, -1);
      const asWritten = routes.findIndex(
        (route) => route.pathType === "Prefix" && utf8AsLatin1(route.path) === bare,
      );
      if (asWritten !== -1) this.#claim(bare, { kind: "route", entry: entries[asWritten] as E });
      else if (redirectsToSlash) this.#claim(bare, { kind: "trailingSlash", entry: entries[index] as E });
    });
  }

  #indexPrefixes(): ReadonlyMap<string, Match<E>> {
    const index = new Map<string, Match<E>>();
    this.#prefixes.forEach((prefix, at) => {
      const match = this.#prefixMatches[at];
      if (match !== undefined && !index.has(prefix)) index.set(prefix, match);
    });
    return index;
  }

  find(path: string): Match<E> | undefined {
    const found = this.#exact.get(path);
    if (found !== undefined) return found;
    if (this.#prefixIndex !== undefined) return this.#lookUp(path, this.#prefixIndex);
    const prefixes = this.#prefixes;
    for (let index = 0; index < prefixes.length; index++) {
      const prefix = prefixes[index] as string;
      const { length } = prefix;
      if (path.startsWith(prefix) && (path.length === length || path.charCodeAt(length) === SLASH)) {
        return this.#prefixMatches[index];
      }
    }
    return undefined;
  }

  /** The path itself, then without its last element, and so on; none is longer than the longest prefix. */
  #lookUp(path: string, index: ReadonlyMap<string, Match<E>>): Match<E> | undefined {
    let end = path.length;
    const longest = this.#prefixes[0]?.length ?? 0;
    if (end > longest) end = path.lastIndexOf("/", longest);
    while (end > 0) {
      const match = index.get(path.slice(0, end));
      if (match !== undefined) return match;
      end = path.lastIndexOf("/", end - 1);
    }
    return index.get("");
  }
}

/**
 * Every route is a start-anchored, case-insensitive pattern; the first one in order that matches is taken.
 * A Prefix route that is plain text, without metacharacters, is a pattern like any other: `/foo` takes `/foobar`.
 * Control refuses patterns that the engine refuses; should one come all the same, it matches nothing.
 */
class PatternMatcher<E> implements Matcher<E> {
  readonly #candidates: readonly { readonly test: (path: string) => boolean; readonly match: Match<E> }[];

  constructor(routes: readonly Route[], entries: readonly E[]) {
    this.#candidates = routes.map(({ path }, index) => ({
      test: lazyPattern(path),
      match: { kind: "route", entry: entries[index] as E },
    }));
  }

  find(path: string): Match<E> | undefined {
    return this.#candidates.find(({ test }) => test(path))?.match;
  }
}

/** Compiled at its first use: a cold isolate pays for the patterns that stand before its own route, not for all. */
function lazyPattern(text: string): (path: string) => boolean {
  let compiled: CompiledPattern | undefined;
  return (path) => {
    compiled ??= compilePattern(text, { ignoreCase: true });
    return compiled.kind === "pattern" && compiled.pattern.test(path);
  };
}
