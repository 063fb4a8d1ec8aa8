/**
 * How far behind the cluster the kernel is in one family: when the oldest change came that is not in it, and when it was last in line.
 *
 * Times are milliseconds since 1970. Health checks are what asks.
 */

export class Progress {
  #queuedSinceMs: number | undefined;
  /** Of the write that is under way: what it does not end with is not in the kernel. */
  #writingSinceMs: number | undefined;
  #syncedAtMs: number | undefined;

  /** A change came. */
  queue(): void {
    this.#queuedSinceMs ??= Date.now();
  }

  /** What was queued is being written; what comes from here on is for the next time. */
  begin(): void {
    this.#writingSinceMs = this.queuedSinceMs;
    this.#queuedSinceMs = undefined;
  }

  succeed(): void {
    this.#writingSinceMs = undefined;
    this.#syncedAtMs = Date.now();
  }

  /** Something is not in the kernel, if only what was found changed there. */
  fail(): void {
    this.#queuedSinceMs = this.queuedSinceMs ?? Date.now();
    this.#writingSinceMs = undefined;
  }

  /** A change waits for the next write. */
  get isQueued(): boolean {
    return this.#queuedSinceMs !== undefined;
  }

  /** When the oldest change came that is not in the kernel, being written or not; `undefined`: all are. */
  get queuedSinceMs(): number | undefined {
    return this.#writingSinceMs ?? this.#queuedSinceMs;
  }

  /** When the kernel was last known to hold what is wanted. */
  get syncedAtMs(): number | undefined {
    return this.#syncedAtMs;
  }
}
