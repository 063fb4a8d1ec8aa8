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

/**
 * Exact and Prefix routes. Hosts differ in where their paths lead and seldom in the paths, so what is made of the
 * paths alone is shared: ten thousand hosts keep one index and a list of entries each, and an index that every
 * request uses stays in the processor's cache.
 */
class PathMatcher<E> implements Matcher<E> {
  readonly #index: PathIndex;
  readonly #entries: readonly E[];

  constructor(routes: readonly Route[], entries: readonly E[], redirectsToSlash: boolean) {
    this.#index = pathIndex(routes, redirectsToSlash);
    this.#entries = entries;
  }

  find(path: string): Match<E> | undefined {
    const found = this.#index.find(path);
    if (found >= 0) return { kind: "route", entry: this.#entries[found] as E };
    return found === NOTHING
      ? undefined
      : { kind: "trailingSlash", entry: this.#entries[redirectOf(found)] as E };
  }
}

/** Indices of hosts with few paths, by those paths. Which of them are shared matters to nobody but the memory. */
const shared = new Map<string, PathIndex>();
const MAX_SHARED = 1024;
const MAX_ROUTES_OF_SHARED = 64;

function pathIndex(routes: readonly Route[], redirectsToSlash: boolean): PathIndex {
  if (routes.length > MAX_ROUTES_OF_SHARED) return new PathIndex(routes, redirectsToSlash);
  let key = redirectsToSlash ? "/" : "";
  // With its length, no path can pass for two.
  for (const { path, pathType } of routes) key += `${pathType === "Exact" ? "=" : "~"}${path.length}:${path}`;
  let index = shared.get(key);
  if (index === undefined) {
    index = new PathIndex(routes, redirectsToSlash);
    if (shared.size >= MAX_SHARED) shared.clear();
    shared.set(key, index);
  }
  return index;
}

/** What `PathIndex.find` says of a path that meets no route. A number below it: the redirect of a route. */
const NOTHING = -1;

/** The route behind a redirect, and the number for it: one is the reverse of the other. */
function redirectOf(number: number): number {
  return NOTHING - 1 - number;
}

/** Paths alone, without what they lead to: finds the number of a route in the host's order. */
class PathIndex {
  readonly #exact = new Map<string, number>();
  /**
   * Without their last slash, in the order of the routes, which is longest first. Two of them that fit one path differ
   * by an element at least, so a slash less does not turn them round; the first need not be the longest, though.
   */
  readonly #prefixes: string[] = [];
  /** `#prefixes[i]` is of route `#prefixRoutes[i]`. */
  readonly #prefixRoutes: number[] = [];
  /** The same by text, where there are many. */
  readonly #prefixIndex: ReadonlyMap<string, number> | undefined;
  /** No look-up is worth it for more of a path than this. */
  #longestPrefix = 0;

  constructor(routes: readonly Route[], redirectsToSlash: boolean) {
    let endInSlash = 0;
    for (let route = 0; route < routes.length; route++) {
      const { path: written, pathType } = routes[route] as Route;
      const path = utf8AsLatin1(written);
      const endsInSlash = path.charCodeAt(path.length - 1) === SLASH;
      if (endsInSlash && path !== "/") endInSlash++;
      if (pathType === "Exact") {
        this.#claim(path, route);
      } else {
        const prefix = endsInSlash ? path.slice(0, -1) : path;
        this.#prefixes.push(prefix);
        this.#prefixRoutes.push(route);
        if (prefix.length > this.#longestPrefix) this.#longestPrefix = prefix.length;
      }
    }
    if (endInSlash > 0) this.#claimWithoutSlash(routes, redirectsToSlash);
    if (this.#prefixes.length > MAX_SCANNED_PREFIXES) this.#prefixIndex = this.#indexPrefixes();
  }

  #claim(path: string, found: number): void {
    if (!this.#exact.has(path)) this.#exact.set(path, found);
  }

  /** What `/foo` meets where a route is `/foo/`: an Exact or a Prefix of that very text, else nginx's redirect. */
  #claimWithoutSlash(routes: readonly Route[], redirectsToSlash: boolean): void {
    const prefixesAsWritten = new Map<string, number>();
    routes.forEach(({ path: written, pathType }, route) => {
      const path = utf8AsLatin1(written);
      if (pathType === "Prefix" && !prefixesAsWritten.has(path)) prefixesAsWritten.set(path, route);
    });
    routes.forEach(({ path: written }, route) => {
      const path = utf8AsLatin1(written);
      if (path === "/" || !path.endsWith("/")) return;
      const bare = path.slice(0, -1);
      const asWritten = prefixesAsWritten.get(bare);
      if (asWritten !== undefined) this.#claim(bare, asWritten);
      else if (redirectsToSlash) this.#claim(bare, redirectOf(route));
    });
  }

  #indexPrefixes(): ReadonlyMap<string, number> {
    const index = new Map<string, number>();
    this.#prefixes.forEach((prefix, at) => {
      const route = this.#prefixRoutes[at];
      if (route !== undefined && !index.has(prefix)) index.set(prefix, route);
    });
    return index;
  }

  /** The number of the route, `NOTHING`, or that of a redirect (`redirectOf`). */
  find(path: string): number {
    if (this.#exact.size > 0) {
      const found = this.#exact.get(path);
      if (found !== undefined) return found;
    }
    if (this.#prefixIndex !== undefined) return this.#lookUp(path, this.#prefixIndex);
    const prefixes = this.#prefixes;
    for (let at = 0; at < prefixes.length; at++) {
      const prefix = prefixes[at] as string;
      const { length } = prefix;
      if (path.startsWith(prefix) && (path.length === length || path.charCodeAt(length) === SLASH)) {
        return this.#prefixRoutes[at] as number;
      }
    }
    return NOTHING;
  }

  /** The path itself, then without its last element, and so on; none is longer than the longest prefix. */
  #lookUp(path: string, index: ReadonlyMap<string, number>): number {
    let end = path.length;
    if (end > this.#longestPrefix) end = path.lastIndexOf("/", this.#longestPrefix);
    while (end > 0) {
      const route = index.get(path.slice(0, end));
      if (route !== undefined) return route;
      end = path.lastIndexOf("/", end - 1);
    }
    return index.get("") ?? NOTHING;
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
