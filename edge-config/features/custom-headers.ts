/** Headers of every answer, in place of the pod's own (ingress-nginx `custom-headers`). */
export interface CustomHeadersPolicy {
  /** Name and literal value, in the order of the names. */
  readonly headers: readonly (readonly [name: string, value: string])[];
}
