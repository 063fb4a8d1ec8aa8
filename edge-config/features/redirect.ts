/** An answer in place of the origin's: ingress-nginx's `permanent-redirect` and `temporal-redirect`, and where redirects point. */
export interface RedirectPolicy {
  /** Absent: the route redirects nobody; the policy says only how other redirects of the route are written. */
  readonly answer?: {
    /** 300–308. */
    readonly status: number;
    /** Sent literally. One that begins with `/` is made absolute unless `relative`. */
    readonly location: string;
  };
  /** nginx's `absolute_redirect off`: a location that begins with `/` stays as it is. */
  readonly relative: boolean;
}
