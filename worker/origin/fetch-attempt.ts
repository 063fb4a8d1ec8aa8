/** The one `fetch` towards pods. Redirects are not followed: they belong to the client. */

import type { Attempt } from "./transport.ts";

export function fetchAttempt(
  fetcher: Pick<Fetcher, "fetch">,
  url: string,
  { carrier, method, headers, body }: Attempt,
): Promise<Response> {
  // A request that came is one of `redirect: "manual"`, and so are its copies.
  if (carrier !== undefined) return fetcher.fetch(url, carrier);
  return fetcher.fetch(url, { method, headers, body, redirect: "manual" });
}
