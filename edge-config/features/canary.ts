import type { BackendName } from "../config.ts";

/** Another backend for some of the requests (ingress-nginx `canary-*`). Asked in the order of the fields. */
export interface CanaryPolicy {
  readonly backend: BackendName;
  readonly header?: {
    readonly name: string;
    /** `always`/`never` alone decide, the value decides, or a pattern does. */
    readonly match:
      | { readonly kind: "AlwaysNever" }
      | { readonly kind: "Value"; readonly value: string }
      | { readonly kind: "Pattern"; readonly pattern: string };
  };
  /** Name of a cookie whose value is `always` or `never`. */
  readonly cookie?: string;
  /** Of `weightTotal` requests so many, at random. */
  readonly weight: number;
  readonly weightTotal: number;
  /** A client that is bound to a pod by its cookie stays there, whatever the rules say. */
  readonly sticky: boolean;
}
