/**
 * The order in which filters meet a request. One written array, a line a filter, with the reason for its place.
 *
 * In: nothing. Out: the names. Free of everything but types, so that `fairlead explain` shows the very order.
 */

import type { HostFeatureName, RouteFeatureName } from "../edge-config/policies.ts";

/** Steps that stand among the features without being one. */
export type StepName = "endpoints";

/**
 * The way in, read top to bottom; the way out is the reverse. It is nginx's order (reference §0.6).
 * A feature of a host runs before those of routes, whatever its place here.
 */
export const FILTER_ORDER = [
  "cors", // A preflight carries no credentials and must cost no quota: before redirects, limits and every check.
  "endpoints", // A backend without endpoints is 503 after redirects, and before a limit is charged or a password asked.
] as const satisfies readonly (RouteFeatureName | HostFeatureName | StepName)[];
