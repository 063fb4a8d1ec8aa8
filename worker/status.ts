/** What `/.fairlead/status` shows: the configuration in use, how fresh it is, and what last went wrong. */

import type { Edge } from "./edge.ts";

export const STATUS_PATH = "/.fairlead/status";

export function readStatus({ store, startedAt, limitCounts }: Edge) {
  const now = Date.now();
  const { pointer, checkedAt, adoptedAt, lastError, ...counts } = store.status;
  const seconds = (since: number): number => Math.max(0, (now - since) / 1000);
  return {
    generation: pointer?.generation ?? null,
    epoch: pointer?.epoch ?? null,
    createdAt: pointer?.createdAt ?? null,
    /** Since the pointer was written, was last looked at, and was adopted here. */
    ageSeconds: pointer === undefined ? null : seconds(Date.parse(pointer.createdAt)),
    checkedSecondsAgo: pointer === undefined ? null : seconds(checkedAt),
    adoptedSecondsAgo: pointer === undefined ? null : seconds(adoptedAt),
    ...counts,
    limits: limitCounts ?? null,
    lastError:
      lastError === undefined ? null : { message: lastError.message, secondsAgo: seconds(lastError.at) },
    isolateAgeSeconds: seconds(startedAt),
  };
}
