/** A time limit on something that cannot be cancelled. */

/**
 * `undefined` when the time is up, or somebody says so (`earlier`). Every request pays for this, so it does no more
 * than it must: the timer is not cleared, since it ends with the request and wakes nobody once there is an answer;
 * and a request that is given up is not aborted, since it ends with the client's.
 */
export function within<T>(
  milliseconds: number,
  promise: Promise<T>,
  earlier?: Promise<undefined>,
): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    promise.then(resolve, reject);
    earlier?.then(resolve, reject);
    setTimeout(resolve, milliseconds, undefined);
  });
}
