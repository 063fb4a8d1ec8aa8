/** Does something after a time, or once everything that is due now is done: a timer set to 0 waits for a millisecond. */

/** Returns what calls it off. */
export function later(ms: number, action: () => void): () => void {
  if (ms <= 0) {
    const immediate = setImmediate(action);
    return () => clearImmediate(immediate);
  }
  const timer = setTimeout(action, ms);
  return () => clearTimeout(timer);
}
