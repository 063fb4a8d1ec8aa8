import type { Template } from "../template.ts";

/** Headers of the operator's own (the controller's `add-headers`, `proxy-set-headers`), in the order of their names. */
export interface AddedHeadersPolicy {
  readonly toClient: readonly (readonly [name: string, value: string])[];
  readonly toPod: readonly (readonly [name: string, value: Template])[];
}
