/**
 * An answer that is made before the request's body has been read (nginx's lingering_close): a connection that is
 * closed with unread bytes is reset, and the client never sees the answer. So the answer goes out at once and whole,
 * but ends only when the client has sent everything, or has had time to.
 */

/** nginx's lingering_time. */
const LONGEST_MILLISECONDS = 30_000;

const WITHOUT_BODY: ReadonlySet<number> = new Set([101, 204, 205, 304]);

/** The answer itself where nothing is left to read. Nobody who waits for `100 Continue` is asked for a body that nobody wants. */
export function lingering(request: Request, answer: Response): Response {
  const { body } = request;
  if (body === null || body.locked || request.bodyUsed || request.headers.has("expect")) return answer;
  if (WITHOUT_BODY.has(answer.status)) return answer;
  const reader = answer.body?.getReader();
  const length = answer.headers.get("content-length");
  const shown = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const piece = await reader?.read();
      if (piece !== undefined && !piece.done) return controller.enqueue(piece.value);
      const signal = AbortSignal.timeout(LONGEST_MILLISECONDS);
      await body.pipeTo(new WritableStream<Uint8Array>(), { signal }).catch(() => {}); // However it ends, all is said.
      controller.close();
    },
  });
  if (length === null) return new Response(shown, answer);
  return new Response(shown.pipeThrough(new FixedLengthStream(Number(length))), answer);
}
