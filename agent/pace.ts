/**
 * How long a change waits for others before it is written.
 *
 * In: when changes come and how long writing them takes. Out: a delay. A change after quiet is written at once: nobody
 * gains from waiting. Changes that go on coming are gathered, the longer they go on: 10, 20, 40, 50 ms; and where a
 * write takes longer than that (iptables rewrites a whole table), as long as a write takes, so that at least half of the
 * time is left to others, up to a second. No clock in here: times are told.
 */

export interface PaceLimits {
  readonly firstMs: number;
  readonly longestMs: number;
  /** However long writes take. */
  readonly ceilingMs: number;
}

export const PACE: PaceLimits = { firstMs: 10, longestMs: 50, ceilingMs: 1_000 };

export class Pace {
  readonly #limits: PaceLimits;
  #delayMs = 0;
  #quietFromMs = Number.NEGATIVE_INFINITY;
  #costMs = 0;

  constructor(limits: PaceLimits = PACE) {
    this.#limits = limits;
  }

  /** A change is there at `nowMs`: how long to wait for more. */
  delayMs(nowMs: number): number {
    const { firstMs, longestMs, ceilingMs } = this.#limits;
    const longest = Math.min(ceilingMs, Math.max(longestMs, this.#costMs));
    if (nowMs - this.#quietFromMs >= longest) this.#delayMs = 0;
    else this.#delayMs = Math.min(longest, Math.max(firstMs, this.#delayMs * 2, this.#costMs));
    return this.#delayMs;
  }

  /** A write has ended at `nowMs` after `durationMs`. */
  written(nowMs: number, durationMs: number): void {
    this.#quietFromMs = nowMs;
    this.#costMs = durationMs;
  }
}
