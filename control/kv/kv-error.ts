/** What can go wrong with a call to KV, by what the caller should do about it. */

/**
 * - `rate-limited`: not before `retryAfterMs`.
 * - `unavailable`: 5xx, or an answer that makes no sense. Again, with back-off.
 * - `timeout`, `network`: again, with back-off; the call may have had its effect.
 * - `refused`: 4xx, a wrong token or namespace. Repeating it helps only after somebody repaired it.
 */
export type KvErrorKind = "rate-limited" | "unavailable" | "timeout" | "network" | "refused";

export class KvError extends Error {
  override readonly name = "KvError";
  readonly kind: KvErrorKind;
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(
    kind: KvErrorKind,
    message: string,
    details: { readonly status?: number; readonly retryAfterMs?: number; readonly cause?: unknown } = {},
  ) {
    super(message, { cause: details.cause });
    this.kind = kind;
    this.status = details.status;
    this.retryAfterMs = details.retryAfterMs;
  }
}
