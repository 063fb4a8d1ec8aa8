import type { Template } from "../template.ts";

/** How requests are spread over the endpoints of a backend. Absent: one after the other. */
export type BalancingPolicy =
  /** The quicker of two at random (ingress-nginx `load-balance: ewma`). */
  | { readonly kind: "Ewma" }
  /** The same text goes to the same endpoint, or to the same few (`upstream-hash-by`). */
  | {
      readonly kind: "Hash";
      readonly key: Template;
      /** Endpoints that share one text; absent: one alone. */
      readonly subsetSize?: number;
    };
