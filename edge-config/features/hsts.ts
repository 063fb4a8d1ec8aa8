/** `Strict-Transport-Security` of answers over https (RFC 6797; ingress-nginx's `hsts*`). */
export interface HstsPolicy {
  /** The header's value. */
  readonly value: string;
}
