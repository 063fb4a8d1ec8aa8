/** The one `fetch` towards pods. Redirects are not followed: they belong to the client. */

import type { Attempt } from "./transport.ts";

export function fetchAttempt(
  fetcher: Pick<Fetcher, "fetch">,
  url: string,
  attempt: Attempt,
): Promise<Response> {
  if (attempt.bodyCarrier !== undefined)
    return fetcher.fetch(carriedRequest(url, attempt, attempt.bodyCarrier));
  const { method, headers, body } = attempt;
  // Less work for the runtime than `new Request(url, request)`, and less again without a word of a body.
  return body === null
    ? fetcher.fetch(url, { method, headers, redirect: "manual" })
    : fetcher.fetch(url, { method, headers, body, redirect: "manual" });
}

/** The Fetch standard lets nobody make a GET with a body; one that came with a body may be sent on. */
function carriedRequest(url: string, { headers }: Attempt, carrier: Request): Request {
  const request = new Request(url, carrier);
  for (const name of carrier.headers.keys()) if (!headers.has(name)) request.headers.delete(name);
  for (const [name, value] of headers) request.headers.set(name, value);
  return request;
}
