/**
 * Whether the API server is still there.
 *
 * A peer that vanishes without a word (a network that drops packets, a frozen server) leaves watches that look alive
 * for minutes. So when nothing was heard for a while, the server is asked for its version, which costs it nothing.
 * Without an answer every connection is cut, which the reflectors notice; from then on it is asked until it answers,
 * and the reflectors are woken.
 */

import type { KubernetesApi } from "./api.ts";
import { describeError } from "./api-error.ts";
import { pause } from "./backoff.ts";

export interface PulseSettings {
  /** After so long without a word the server is asked. */
  readonly quietMs: number;
  /** How long it has to answer. */
  readonly timeoutMs: number;
  /** Between two questions to a server that did not answer. */
  readonly retryMs: number;
}

export const PULSE: PulseSettings = { quietMs: 10_000, timeoutMs: 10_000, retryMs: 2_000 };

export interface PulseSink {
  readonly lost: (message: string) => void;
  readonly back: () => void;
}

/** Runs until `stop` fires. */
export async function followPulse(
  api: KubernetesApi,
  { quietMs, timeoutMs, retryMs }: PulseSettings,
  sink: PulseSink,
  stop: AbortSignal,
): Promise<void> {
  let isLost = false;
  while (!stop.aborted) {
    const quietForMs = performance.now() - api.lastHeardMs();
    if (!isLost && quietForMs < quietMs) {
      await pause(quietMs - quietForMs, stop);
      continue;
    }
    try {
      await api.request({
        path: "/version",
        signal: AbortSignal.any([stop, AbortSignal.timeout(timeoutMs)]),
      });
      if (isLost) sink.back();
      isLost = false;
    } catch (error) {
      if (stop.aborted) return;
      if (performance.now() - api.lastHeardMs() < timeoutMs) continue; // It answered, if only with an error.
      if (!isLost) {
        isLost = true;
        api.disconnect();
        sink.lost(describeError(error));
      }
      await pause(retryMs, stop);
    }
  }
}
