/** Another path for the pod (ingress-nginx `rewrite-target`). */
export type RewritePolicy =
  | {
      readonly kind: "Template";
      /** Text and numbers of capture groups of the route's own path, in turn; `["/", 2]`. */
      readonly target: readonly (string | number)[];
      /** The target is a URL: the client is sent there with 302. */
      readonly redirects: boolean;
      /** Value of `X-Forwarded-Prefix` for the pod. */
      readonly forwardedPrefix?: string;
    }
  | {
      /** Before ingress-nginx 0.22: the matched prefix is replaced, and the rest of the path follows. */
      readonly kind: "Prefix";
      readonly target: string;
      readonly forwardedPrefix?: string;
    };
