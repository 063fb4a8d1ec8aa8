/**
 * How an endpoint is chosen. One balancer for each backend, in each isolate; a new one when the endpoints
 * change, while the `Endpoint` objects of those that stay, and with them what was learnt, live on.
 */

import type { Exchange } from "../exchange.ts";

/** One pod of a backend, as this isolate knows it. Algorithms keep what they learn in tables keyed by the object. */
export interface Endpoint {
  /** `address:port`, as in the configuration. */
  readonly address: string;
}

/** What became of an attempt. */
export type Outcome =
  /** It answered; the status may still be one that counts as a failure. */
  | { readonly kind: "answered"; readonly status: number; readonly milliseconds: number }
  /** No connection, or a broken one. */
  | { readonly kind: "failed" }
  /** No head of an answer in time. */
  | { readonly kind: "timedOut" };

export interface Balancer {
  /**
   * The endpoint for the next attempt of a request; never one of `tried`, those that have failed it. `undefined`:
   * all of them are tried, or there is none.
   */
  readonly pick: (exchange: Exchange, tried: readonly Endpoint[]) => Endpoint | undefined;
  /** Absent for an algorithm that does not learn from outcomes; then none is measured. */
  readonly settle?: (endpoint: Endpoint, outcome: Outcome) => void;
}
