/** What an answer tells a client of its limit (draft-ietf-httpapi-ratelimit-headers-10; RFC 9110 §10.2.3). */

import type { Admission } from "./limiter.ts";

/** `RateLimit` with what remains; on a refusal `Retry-After` as well. */
export function setRateLimitHeaders(headers: Headers, policy: string, admission: Admission): void {
  if (admission.kind === "Admitted") {
    if (admission.remaining !== undefined)
      headers.append("RateLimit", `"${policy}";r=${Math.max(0, admission.remaining)}`);
    return;
  }
  const seconds = Math.max(1, Math.ceil(admission.retryAfterMs / 1000));
  headers.append("RateLimit", `"${policy}";r=0;t=${seconds}`);
  headers.set("Retry-After", String(seconds));
}
