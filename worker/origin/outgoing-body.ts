/**
 * The body of a request, possibly to be sent more than once.
 *
 * A body is streamed and gone. Only a small one of known length is kept, by splitting the stream: the copy fills
 * up while the first attempt sends, so nothing waits and nothing is read here.
 */

import type { Visit } from "../visit.ts";

export interface OutgoingBody {
  /** Whether another attempt could send the whole body again. */
  readonly canReplay: boolean;
  /** For one attempt; the last one gets what is left. `null` where the carrier has it. */
  readonly take: (isLast: boolean) => ReadableStream | null;
  /** No other attempt follows. */
  readonly release: () => void;
  /** See `Attempt.carrier`. */
  readonly carrier: Request | undefined;
}

/** What an isolate may hold for one request, in bytes. Most forms and API calls are smaller. */
const MAX_REPLAYED_BYTES = 64 * 1024;

/** `replacement` comes from a filter; `wantsReplay` is false where there is nowhere else to send it. */
export function outgoingBody(
  { request, body }: Visit,
  replacement: ReadableStream | undefined,
  wantsReplay: boolean,
): OutgoingBody {
  // A replacement may fail on purpose in mid-stream, which must be seen once. Fetch takes none for GET and HEAD.
  if (replacement !== undefined) {
    const takesBody = request.method !== "GET" && request.method !== "HEAD";
    return {
      canReplay: false,
      take: () => (takesBody ? replacement : null),
      release: nothing,
      carrier: undefined,
    };
  }
  if (body === null) return NO_BODY;
  if (!wantsReplay || request.method === "GET" || !isSmall(request.headers.get("content-length"))) {
    return { canReplay: false, take: () => null, release: nothing, carrier: request };
  }
  let rest = body;
  return {
    canReplay: true,
    take: (isLast) => {
      if (isLast) return rest;
      const [now, later] = rest.tee();
      rest = later;
      return now;
    },
    release: () => {
      rest.cancel().catch(nothing); // A copy that nobody reads: however it ends is right.
    },
    carrier: undefined,
  };
}

function nothing(): void {}

/** Nearly every request. */
const NO_BODY: OutgoingBody = { canReplay: true, take: () => null, release: nothing, carrier: undefined };

function isSmall(contentLength: string | null): boolean {
  return contentLength !== null && Number(contentLength) <= MAX_REPLAYED_BYTES;
}
