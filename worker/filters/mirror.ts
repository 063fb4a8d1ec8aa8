/** A copy of every request for somebody else (ngx_http_mirror_module): sent beside the request, its answer dropped. */

import { fetchDestination } from "../origin/destination.ts";
import { upstreamHeaders } from "../origin/headers.ts";
import type { FilterFor } from "./filter.ts";

export const mirror: FilterFor<"mirror"> = ({ destination: written, host, withBody }) => {
  const destination = host !== undefined && written.kind === "Backend" ? { ...written, host } : written;
  return {
    onRequest(exchange) {
      const { request, upstream, context } = exchange;
      const headers = upstreamHeaders(exchange);
      let copy: ReadableStream | null = null;
      const body = upstream.body ?? request.body;
      if (withBody && body !== null) [upstream.body, copy] = body.tee();
      else headers.delete("content-length");
      context.waitUntil(
        fetchDestination(exchange, destination, { method: request.method, headers, body: copy }).then(
          (answer) => answer?.body?.cancel(),
        ),
      );
      return undefined;
    },
  };
};
