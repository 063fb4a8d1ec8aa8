/** Cross-Origin Resource Sharing, answered at the edge (Fetch standard §3.2; ingress-nginx `enable-cors`). */
export interface CorsPolicy {
  /** `*` alone, or origins `scheme://host[:port]` in which `*` stands for one DNS label, or `null`. */
  readonly allowOrigins: readonly string[];
  /** Value of `Access-Control-Allow-Methods`, as it is sent. */
  readonly allowMethods: string;
  /** Value of `Access-Control-Allow-Headers`, as it is sent. */
  readonly allowHeaders: string;
  /** Value of `Access-Control-Expose-Headers`; absent sends none. */
  readonly exposeHeaders?: string;
  readonly allowCredentials: boolean;
  readonly maxAgeSeconds: number;
}
