/** Who may come by address (ingress-nginx `allowlist-source-range`, `denylist-source-range`). CIDRs, canonical. */
export interface AccessListPolicy {
  /** Looked at first. Empty: nobody is refused by it. */
  readonly deny: readonly string[];
  /** Empty: everybody who is not denied may come. */
  readonly allow: readonly string[];
}
