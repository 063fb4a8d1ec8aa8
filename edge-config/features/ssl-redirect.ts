/** From http to https (ingress-nginx `ssl-redirect`, `force-ssl-redirect`). */
export interface SslRedirectPolicy {
  readonly status: number;
  /** Keeps the one slash at the end that ingress-nginx strips from path and query otherwise. */
  readonly keepsTrailingSlash: boolean;
  /** `:443` stands in the Location. */
  readonly withPort: boolean;
}
