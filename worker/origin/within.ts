/** A time limit on something that cannot be cancelled. */

/**
 * `undefined` when the time is up, or somebody says so (`earlier`). The request that is given up ends with the client's: an AbortSignal would
 * end it sooner, and would cost every request for the sake of the few.
 */
export async function within<T>(
  milliseconds: number,
  promise: Promise<T>,
  earlier?: Promise<undefined>,
): Promise<T | undefined> {
  const { promise: deadline, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(resolve, milliseconds, undefined);
  try {
    return await Promise.race(earlier === undefined ? [promise, deadline] : [promise, deadline, earlier]);
  } finally {
    clearTimeout(timer);
  }
}
