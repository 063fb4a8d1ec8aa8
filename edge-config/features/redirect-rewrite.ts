/** Other beginnings for the pod's Location and Refresh (ingress-nginx `proxy-redirect-from`, `-to`). */
export interface RedirectRewritePolicy {
  readonly from: string;
  readonly to: string;
}
