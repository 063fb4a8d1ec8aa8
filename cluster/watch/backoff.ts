/** Waiting after failures: longer each time, and never in step with other clients. */

export interface BackoffLimits {
  readonly firstMs: number;
  readonly longestMs: number;
}

/** As patient as client-go's reflectors, but quicker at first. */
export const API_BACKOFF: BackoffLimits = { firstMs: 250, longestMs: 30_000 };

/** The wait after the `failures`-th failure in a row (from 0): doubled each time, cut at random by up to a half. */
export function backoffMs(
  failures: number,
  { firstMs, longestMs }: BackoffLimits = API_BACKOFF,
  random: () => number = Math.random,
): number {
  return Math.min(longestMs, firstMs * 2 ** Math.min(failures, 30)) * (0.5 + random() / 2);
}

/** Resolves after the time, or as soon as `signal` fires. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted || ms <= 0) return Promise.resolve();
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end, { once: true });
  });
}
