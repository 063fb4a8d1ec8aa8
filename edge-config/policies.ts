/**
 * The list of features: one field each, in the order of the alphabet.
 *
 * A feature is one name in every layer: its policy type here and in `features/<name>.ts`, its annotations
 * in `control/features/<name>.ts`, its behaviour in `worker/filters/<name>.ts`. Add the field, and the
 * compiler names the files that you still owe.
 */

import type { CorsPolicy } from "./features/cors.ts";

/** What a route may ask of the edge. Absent means off. */
export interface RoutePolicies {
  readonly cors?: CorsPolicy;
}

/** What a host asks of the edge before a route is chosen (nginx's server level). Absent means off. */
// biome-ignore lint/suspicious/noEmptyInterface: the first host-wide feature adds its field here.
export interface HostPolicies {}

export type RouteFeatureName = keyof RoutePolicies;
export type HostFeatureName = keyof HostPolicies;
export type FeatureName = RouteFeatureName | HostFeatureName;
