/**
 * What a feature of the edge is at request time.
 *
 * A filter is built from its policy once for a route (or host), at the first request that needs it, never per
 * request. A route without the policy has no filter and pays nothing. Which filters there are is `index.ts`,
 * in which order they run `../pipeline.ts`.
 */

import type { Route } from "../../edge-config/config.ts";
import type { HostFeatureName, PolicyOf, RouteFeatureName } from "../../edge-config/policies.ts";
import type { Exchange } from "../exchange.ts";
import type { HostTable } from "../host-table.ts";
import type { Visit } from "../visit.ts";

/** A response with mutable headers: any `new Response`, but not `Response.redirect`. */
export type Answer = Response;

/** Hooks around the choice and the work of a route (`Exchange`), or around a whole host (`Visit`). */
export interface Hooks<Request> {
  /**
   * On the way in. An answer ends that way: neither later filters nor the pod are asked, while the hooks on the
   * way out still run. What the pod gets is changed in `exchange.upstream`.
   */
  readonly onRequest?: ((request: Request) => Answer | undefined | Promise<Answer | undefined>) | undefined;
  /**
   * On the way out, in the reverse order, for every answer that leaves: the pod's, a filter's, our own 502
   * (`exchange.answeredBy` tells them apart). Change the headers in place, or return another answer instead.
   * A body is wrapped if it must be seen, and never read here.
   */
  readonly onResponse?:
    | ((answer: Answer, request: Request) => Answer | undefined | Promise<Answer | undefined>)
    | undefined;
}

export type Filter = Hooks<Exchange>;

export interface HostFilter extends Hooks<Visit> {
  /** When a route of the host was chosen: what every pod of the host is told. */
  readonly onRoute?: ((exchange: Exchange) => void) | undefined;
}

/** Makes the filter of a route's feature. `undefined`: this policy leaves nothing to do at request time. */
export type FilterFor<N extends RouteFeatureName> = (
  policy: PolicyOf<N>,
  site: { readonly host: HostTable; readonly route: Route },
) => Filter | undefined;

/** The same for a feature of a whole host. */
export type HostFilterFor<N extends HostFeatureName> = (
  policy: PolicyOf<N>,
  site: { readonly host: HostTable },
) => HostFilter | undefined;
