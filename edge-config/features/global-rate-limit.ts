import type { Template } from "../template.ts";

/** So many requests in a window, over all isolates (ingress-nginx `global-rate-limit`, until 1.12). */
export interface GlobalRateLimitPolicy {
  /** The Ingress. */
  readonly name: string;
  readonly limit: number;
  readonly windowSeconds: number;
  /** What is counted together. */
  readonly key: Template;
  /** Clients that are never counted; canonical CIDRs. */
  readonly exempt: readonly string[];
  readonly status: number;
}
