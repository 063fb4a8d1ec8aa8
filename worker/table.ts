/**
 * The route table of one host: what its record says, ready for look-ups.
 *
 * In: a host record. Out: a table that finds the entry of a path. Built when the host is first asked for, and
 * again only when its record changes. `prepare` makes of a route what its reader needs (the Worker: filters
 * and a backend; `fairlead explain`: the route itself); it runs once a route, so it should leave costly
 * work to the first request. Pure, and free of Cloudflare, for `fairlead explain`.
 */

import type { HostConfig, Route } from "../edge-config/config.ts";
import { compileMatcher, type Matcher } from "./match.ts";

/** Finds the entry of a normalised path (`normalisePath`). */
export type RouteTable<E> = Matcher<E>;

export function buildRouteTable<E>(
  { matching, routes }: HostConfig,
  prepare: (route: Route) => E,
): RouteTable<E> {
  return compileMatcher(matching, routes, routes.map(prepare));
}
