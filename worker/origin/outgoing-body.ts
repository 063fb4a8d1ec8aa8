/**
 * The body of a request, possibly to be sent more than once.
 *
 * A body is streamed and gone. Only a small one of known length is kept, by splitting the stream: the copy fills
 * up while the first attempt sends, so nothing waits and nothing is read here.
 */

export interface OutgoingBody {
  /** Whether another attempt could send the whole body again. */
  readonly canReplay: boolean;
  /** For one attempt; the last one gets what is left. */
  readonly take: (isLast: boolean) => ReadableStream | null;
  /** No other attempt follows. */
  readonly release: () => void;
  /** See `Attempt.bodyCarrier`. */
  readonly carrier: Request | undefined;
}

/** What an isolate may hold for one request, in bytes. Most forms and API calls are smaller. */
const MAX_REPLAYED_BYTES = 64 * 1024;

const NO_BODY: OutgoingBody = { canReplay: true, take: () => null, release: () => {}, carrier: undefined };

/** `replacement` comes from a filter; `wantsReplay` is false where there is nowhere else to send it. */
export function outgoingBody(
  request: Request,
  replacement: ReadableStream | undefined,
  wantsReplay: boolean,
): OutgoingBody {
  const body = replacement ?? request.body;
  if (body === null) return NO_BODY;
  const { method } = request;
  if (method === "GET" || method === "HEAD") {
    return { canReplay: false, take: () => null, release: () => {}, carrier: request };
  }
  // A replacement may fail on purpose in mid-stream, which must be seen once.
  if (!wantsReplay || replacement !== undefined || !isSmall(request.headers.get("content-length"))) {
    return { canReplay: false, take: () => body, release: () => {}, carrier: undefined };
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
      rest.cancel().catch(() => {}); // A copy that nobody reads: however it ends is right.
    },
    carrier: undefined,
  };
}

function isSmall(contentLength: string | null): boolean {
  return contentLength !== null && Number(contentLength) <= MAX_REPLAYED_BYTES;
}
