/** How much one client may ask of one Ingress (ingress-nginx `limit-rps`, `limit-rpm`, `limit-connections`). */
export interface RateLimitPolicy {
  /** The Ingress: all of its hosts and paths count together. */
  readonly key: string;
  readonly requestsPerSecond?: number;
  readonly requestsPerMinute?: number;
  /** So many times the limit may come at once on top of it. */
  readonly burstMultiplier: number;
  /** Requests in flight at once. */
  readonly connections?: number;
  /** Clients that are never counted; canonical CIDRs. */
  readonly exempt: readonly string[];
  /** Status of a refusal by rate, and by requests in flight. */
  readonly requestStatus: number;
  readonly connectionStatus: number;
}

/** How limits are enforced at this edge. Absent: `global`, /64, no headers. */
export interface LimitEnforcementPolicy {
  /** `global`: one count for all isolates and places, in Durable Objects. `local`: each isolate counts for itself. */
  readonly mode: "global" | "local";
  /** Clients with IPv6 count by a prefix of so many bits: a household has a /64 of addresses. */
  readonly ipv6PrefixLength: number;
  /** Refusals carry `Retry-After`, and answers `RateLimit` (draft-ietf-httpapi-ratelimit-headers). */
  readonly headers: boolean;
}
