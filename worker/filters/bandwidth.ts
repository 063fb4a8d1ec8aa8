/** How fast an answer may go to a client (nginx's limit_rate, limit_rate_after). */

import type { BandwidthPolicy } from "../../edge-config/features/bandwidth.ts";
import type { FilterFor } from "./filter.ts";

export const bandwidth: FilterFor<"bandwidth"> = (policy) => ({
  onResponse(answer, { answeredBy }) {
    if (answeredBy !== "origin" || answer.body === null || answer.status === 101) return undefined;
    return new Response(answer.body.pipeThrough(throttle(policy)), answer);
  },
});

/** Pieces small enough that a slow answer flows instead of coming in jerks. */
const PIECES_PER_SECOND = 10;

function throttle({ bytesPerSecond, afterBytes }: BandwidthPolicy): TransformStream<Uint8Array, Uint8Array> {
  const piece = Math.max(1, Math.floor(bytesPerSecond / PIECES_PER_SECOND));
  let sent = 0;
  let startedAt: number | undefined;
  return new TransformStream({
    async transform(chunk, controller) {
      for (let at = 0; at < chunk.byteLength; ) {
        const free = afterBytes - sent;
        const length = Math.min(chunk.byteLength - at, free > 0 ? free : piece);
        if (free <= 0) {
          startedAt ??= Date.now();
          const due = startedAt + ((sent - afterBytes) / bytesPerSecond) * 1000;
          const wait = due - Date.now();
          if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
        }
        controller.enqueue(chunk.subarray(at, at + length));
        at += length;
        sent += length;
      }
    },
  });
}
