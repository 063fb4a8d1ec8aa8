/** Trace context for pods (W3C Trace Context; ingress-nginx `enable-opentelemetry`). */
export interface TracingPolicy {
  /** A client's own `traceparent` is believed. */
  readonly trustsIncoming: boolean;
}
