/**
 * How large a request's body may be (nginx's client_max_body_size).
 *
 * Content-Length is believed and answered before anything is asked or counted. A body without one is counted on its
 * way to the pod; when it grows too large the pod's request is broken off and the client gets 413.
 */

import { errorPage } from "../error-page.ts";
import type { Exchange } from "../exchange.ts";
import type { FilterFor } from "./filter.ts";

export const bodySize: FilterFor<"bodySize"> = ({ maxBytes }) => {
  if (maxBytes === 0) return undefined;
  const overgrown = new WeakSet<Exchange>();
  return {
    onRequest(exchange) {
      const { request, upstream } = exchange;
      if (request.body === null) return undefined;
      const length = request.headers.get("content-length");
      if (length !== null) return Number(length) > maxBytes ? errorPage(413) : undefined;
      // Fetch takes no body for these, so the client's own request carries it on, uncounted.
      if (request.method === "GET" || request.method === "HEAD") return undefined;
      upstream.body = (upstream.body ?? request.body).pipeThrough(
        counter(maxBytes, () => overgrown.add(exchange)),
      );
      return undefined;
    },
    onResponse: (_answer, exchange) => (overgrown.has(exchange) ? errorPage(413) : undefined),
  };
};

function counter(maxBytes: number, onOvergrown: () => void): TransformStream<Uint8Array, Uint8Array> {
  let bytes = 0;
  return new TransformStream({
    transform(chunk, controller) {
      bytes += chunk.byteLength;
      if (bytes <= maxBytes) return controller.enqueue(chunk);
      onOvergrown();
      controller.error(new Error("the request's body is larger than the route allows"));
    },
  });
}
