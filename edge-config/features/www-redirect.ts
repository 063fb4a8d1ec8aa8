/** Every request of this host belongs to its counterpart (`www.x` ↔ `x`; ingress-nginx `from-to-www-redirect`). */
export interface WwwRedirectPolicy {
  readonly status: number;
  /** The host that the Ingress has. */
  readonly toHost: string;
}
