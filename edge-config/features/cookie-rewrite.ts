/** Other attributes for the pod's cookies (ingress-nginx `proxy-cookie-domain`, `proxy-cookie-path`). */
export interface CookieRewritePolicy {
  readonly domain?: Replacement;
  readonly path?: Replacement;
}

export interface Replacement {
  readonly from: string;
  readonly to: string;
}
