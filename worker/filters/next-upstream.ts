/** When a request goes on to another pod; the origin stage does it (`../origin/origin.ts`). */

import type { FilterFor } from "./filter.ts";

/** An attempt costs a subrequest, and nobody needs a pod asked more often than this in one request. */
const TRIES_OF_EACH_ENDPOINT = 3;

export const nextUpstream: FilterFor<"nextUpstream"> = (policy) => {
  const statuses = policy.statuses.length === 0 ? undefined : new Set(policy.statuses);
  const { onError, onTimeout, nonIdempotent, timeoutSeconds } = policy;
  const totalMilliseconds = timeoutSeconds === 0 ? Number.POSITIVE_INFINITY : timeoutSeconds * 1000;
  return {
    onRequest({ upstream }) {
      const tries = policy.tries || TRIES_OF_EACH_ENDPOINT * (upstream.backend?.endpoints.length ?? 1);
      upstream.retry = {
        ...upstream.retry,
        tries,
        totalMilliseconds,
        onError,
        onTimeout,
        nonIdempotent,
        statuses,
      };
      return undefined;
    },
  };
};
