/** Headers of pods that no client gets (the controller's `hide-headers`). */
export interface HiddenHeadersPolicy {
  readonly names: readonly string[];
}
