/** Who is refused everywhere (the controller's `block-cidrs`, `block-user-agents`, `block-referers`). */
export interface BlocklistPolicy {
  /** Canonical. */
  readonly cidrs: readonly string[];
  readonly userAgents: readonly BlockedText[];
  readonly referers: readonly BlockedText[];
}

/** `text` compares whole and without case; `pattern` may match anywhere. */
export type BlockedText =
  | { readonly kind: "Text"; readonly text: string }
  | { readonly kind: "Pattern"; readonly pattern: string; readonly ignoreCase: boolean };
