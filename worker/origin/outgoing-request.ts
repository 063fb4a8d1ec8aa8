/**
 * The request towards a pod. It is made once and dressed in place, since `fetch` sends a `Request` that it is given
 * alone as it is; headers or a request beside a URL it would copy once more, header by header.
 *
 * Redirects are not followed: they belong to the client.
 */

import type { Attempt } from "./transport.ts";

export function outgoingRequest(url: string, { carrier, method, headers, body, dress }: Attempt): Request {
  const request =
    carrier === undefined
      ? new Request(url, { method, headers, body, redirect: "manual" })
      : new Request(url, carrier); // A request that came is one of `redirect: "manual"`, and so are its copies.
  dress?.(request.headers);
  return request;
}
