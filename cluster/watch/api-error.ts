/** What the API server said, or that it said nothing. */

/** An answer that is no success. `message` is one sentence for a person. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  /** HTTP status; 0 without an answer. */
  readonly status: number;
  /** `reason` of the API's Status object: `AlreadyExists`, `Expired`, … Empty without one. */
  readonly reason: string;
  /** From `Retry-After`. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, status: number, reason = "", retryAfterMs?: number) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
}

/** True when a resource version is older than what the server remembers: only a new list helps (410 Gone). */
export function isGone(error: unknown): boolean {
  return error instanceof ApiError && error.status === 410;
}

export function isNotFound(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404;
}

/** Somebody else wrote first, or the object is there already. */
export function isConflict(error: unknown): boolean {
  return error instanceof ApiError && error.status === 409;
}

/** One line about an error of any kind; of a failed connection the part that says why. */
export function describeError(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return describeError(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  if (error.cause instanceof Error && error.message === "fetch failed") return describeError(error.cause);
  return error.message === "" ? error.name : error.message.replaceAll(/\s+/g, " ").trim();
}
