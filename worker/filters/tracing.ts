/** Trace context for pods (https://www.w3.org/TR/trace-context/): the client's, or one of our own. */

import { newRequestId } from "../request-id.ts";
import type { FilterFor } from "./filter.ts";

const TRACEPARENT = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

export const tracing: FilterFor<"tracing"> = ({ trustsIncoming }) => ({
  onRequest({ request, upstream }) {
    const given = request.headers.get("traceparent");
    if (trustsIncoming && given !== null && TRACEPARENT.test(given)) return undefined;
    upstream.removeHeader("tracestate");
    upstream.setHeader("traceparent", `00-${newRequestId()}-${newRequestId().slice(0, 16)}-01`);
    return undefined;
  },
});
