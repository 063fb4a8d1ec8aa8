/** A client stays with a pod, by a cookie (ingress-nginx `affinity: cookie`). */
export interface AffinityPolicy {
  /**
   * What the cookie names. `balanced`: a random text that is hashed to an endpoint, so few sessions move when pods
   * come. `persistent`: the endpoint itself, so none moves while its pod lives; both in ingress-nginx's own form.
   * `md5`, `sha1`, `index`: the endpoint as nginx-sticky-module wrote it (`session-cookie-hash`).
   */
  readonly mode: "balanced" | "persistent" | "md5" | "sha1" | "index";
  readonly cookie: {
    readonly name: string;
    readonly path: string;
    readonly domain?: string;
    readonly expiresSeconds?: number;
    readonly maxAgeSeconds?: number;
    readonly sameSite?: "None" | "Lax" | "Strict";
    /** Leaves `SameSite=None` out for browsers that take it for `Strict`. */
    readonly conditionalSameSiteNone: boolean;
    /** `Secure` over http too; over https it is always there. */
    readonly secure: boolean;
  };
  /** A failed attempt lets the client move; otherwise it stays with its pod, dead or not. */
  readonly changeOnFailure: boolean;
}
