/**
 * How long the edge waits for a pod: for the head of its answer, and then between two pieces of the body, never in
 * total. A pause that is too long breaks the answer off, since its status is sent already; so does nginx.
 */

import type { FilterFor } from "./filter.ts";

/** Each piece that passes a watchdog costs the isolate time, so the default is not watched between pieces. */
const DEFAULT_SECONDS = 60;

export const timeouts: FilterFor<"timeouts"> = ({ connectSeconds, sendSeconds, readSeconds }) => ({
  onRequest({ request, upstream }) {
    upstream.retry = { ...upstream.retry, headMilliseconds: readSeconds * 1000 };
    upstream.connectMilliseconds = connectSeconds * 1000;
    const body = upstream.body ?? request.body;
    if (sendSeconds !== DEFAULT_SECONDS && body !== null)
      upstream.body = body.pipeThrough(watchdog(sendSeconds * 1000));
    return undefined;
  },
  onResponse(answer, { answeredBy }) {
    if (
      readSeconds === DEFAULT_SECONDS ||
      answeredBy !== "origin" ||
      answer.body === null ||
      answer.status === 101
    )
      return undefined;
    return new Response(answer.body.pipeThrough(watchdog(readSeconds * 1000)), answer);
  },
});

/** Passes bytes through, and fails when none has come for so long. */
function watchdog(milliseconds: number): TransformStream<Uint8Array, Uint8Array> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stop = (): void => {
    if (timer !== undefined) clearTimeout(timer);
  };
  const wind = (controller: TransformStreamDefaultController<Uint8Array>): void => {
    stop();
    timer = setTimeout(
      () => controller.error(new Error(`nothing came for ${milliseconds} ms`)),
      milliseconds,
    );
  };
  return new TransformStream<Uint8Array, Uint8Array>({
    start: wind,
    transform(chunk, controller) {
      controller.enqueue(chunk);
      wind(controller);
    },
    flush: stop,
    cancel: stop,
  });
}
