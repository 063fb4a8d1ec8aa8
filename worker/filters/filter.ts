/**
 * What a feature of the edge is at request time.
 *
 * A filter is built once per route table from its policy, never per request; a route without the policy
 * pays nothing. `onRequest` may answer in place of the origin; `onResponse` sees every answer that leaves
 * the route, the filters' own included.
 */
export type {};
