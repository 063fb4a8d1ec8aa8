/** How a long-running command ends: SIGINT or SIGTERM asks it to, once. */

/** Fires with the first signal. Whatever still holds the process `longestFarewellMs` later is left. */
export function stopOnSignals(longestFarewellMs: number): AbortSignal {
  const stop = new AbortController();
  const end = (): void => {
    if (stop.signal.aborted) return;
    stop.abort();
    setTimeout(() => process.exit(0), longestFarewellMs).unref();
  };
  process.on("SIGINT", end);
  process.on("SIGTERM", end);
  return stop.signal;
}
