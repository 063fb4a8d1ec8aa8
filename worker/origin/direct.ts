/**
 * Dials the endpoint itself. For public pods, for a VPC Network without a gateway, for plain workerd and for
 * measurements.
 *
 * The pod sees the endpoint's address as `Host` and the real one in `X-Forwarded-Host`. `fetch` resolves dot
 * segments of the path, takes `\\` for `/` and escapes what may not stand in a URL (`{`, `"`, letters beyond
 * ASCII); every other byte of the target stays. On Cloudflare an address in
 * a public `fetch` is refused (error 1003): there the binding is needed, or endpoints with names.
 */

import { outgoingRequest } from "./outgoing-request.ts";
import { urlTarget } from "./request-target.ts";
import type { Transport } from "./transport.ts";

export function directTransport(fetcher: Pick<Fetcher, "fetch">): Transport {
  return {
    send: (attempt) =>
      fetcher.fetch(
        outgoingRequest(`${attempt.scheme}://${attempt.endpoint}${urlTarget(attempt.target)}`, attempt),
      ),
    failureOf: () => undefined,
  };
}
