/**
 * How long the edge waits for a pod: for the head of its answer, then between two pieces of the body, and for each
 * piece of a request's body to be taken; never in total. A pause that is too long before the head is 504; in the midst
 * of the answer it breaks off, since the status is sent already. So does nginx.
 *
 * Only waiting for the pod counts: a client that reads or sends slowly is no fault of the pod.
 */

import type { FilterFor } from "./filter.ts";

/** Each piece that is watched costs the isolate time, so the defaults are not watched between pieces. */
const DEFAULT_SECONDS = 60;

export const timeouts: FilterFor<"timeouts"> = ({ connectSeconds, sendSeconds, readSeconds }) => ({
  onRequest({ request, upstream }) {
    upstream.retry = { ...upstream.retry, headMilliseconds: readSeconds * 1000 };
    upstream.connectMilliseconds = connectSeconds * 1000;
    const body = upstream.body ?? request.body;
    if (sendSeconds === DEFAULT_SECONDS || body === null) return undefined;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    upstream.bodyStalled = promise;
    const watched = watchSending(body, sendSeconds * 1000, () => resolve(undefined));
    const length = request.headers.get("content-length");
    // A stream of our own has no length; with one the pod's request keeps its Content-Length.
    upstream.body = length === null ? watched : watched.pipeThrough(new FixedLengthStream(Number(length)));
    return undefined;
  },
  onResponse(answer, { answeredBy }) {
    const { body } = answer;
    const isWatched = answeredBy === "origin" && body !== null && answer.status !== 101;
    if (readSeconds === DEFAULT_SECONDS || !isWatched) return undefined;
    return new Response(watchReading(body, readSeconds * 1000), answer);
  },
});

/** Fails when the source gives nothing for so long while somebody waits for it. */
function watchReading(source: ReadableStream<Uint8Array>, milliseconds: number): ReadableStream<Uint8Array> {
  const reader = source.getReader();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const timer = setTimeout(() => {
          const error = new Error(`the pod sent nothing for ${milliseconds} ms`);
          controller.error(error);
          reader.cancel(error).catch(() => {}); // It is given up; how it ends is no matter.
        }, milliseconds);
        try {
          const { done, value } = await reader.read();
          if (done) controller.close();
          else controller.enqueue(value);
        } finally {
          clearTimeout(timer);
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

/** Fails when nobody takes a piece for so long after the one before. */
function watchSending(
  source: ReadableStream<Uint8Array>,
  milliseconds: number,
  onStalled: () => void,
): ReadableStream<Uint8Array> {
  const reader = source.getReader();
  let timer: ReturnType<typeof setTimeout> | null = null;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (timer !== null) clearTimeout(timer); // Whoever asks for more has taken what came before.
        const { done, value } = await reader.read();
        if (done) return controller.close();
        controller.enqueue(value);
        timer = setTimeout(() => {
          onStalled();
          const error = new Error(`the pod took nothing for ${milliseconds} ms`);
          controller.error(error);
          reader.cancel(error).catch(() => {}); // It is given up; how it ends is no matter.
        }, milliseconds);
      },
      cancel(reason) {
        if (timer !== null) clearTimeout(timer);
        return reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}
