/**
 * Peak EWMA with two choices (Finagle's Aperture paper; ingress-nginx's ewma.lua): of two endpoints at random the one
 * whose answers have been quicker of late.
 *
 * An average that decays in ten seconds; a slower answer than the average counts at once, a quicker one by and by, so
 * that a pod that begins to hang is noticed with its first slow answer. A failure counts as a very slow answer.
 */

import type { Balancer, Endpoint } from "./balancer.ts";

const DECAY_MILLISECONDS = 10_000;
const FAILURE_MILLISECONDS = 5_000;

interface Measure {
  average: number;
  at: number;
}

/** Lives with the `Endpoint` objects, so a new balancer over the same ones has learnt already. */
const measures = new WeakMap<Endpoint, Measure>();

export function ewma(
  endpoints: readonly Endpoint[],
  {
    random = Math.random,
    now = Date.now,
  }: { readonly random?: () => number; readonly now?: () => number } = {},
): Balancer {
  const score = (endpoint: Endpoint): number => {
    const measure = measures.get(endpoint);
    // Unknown: as good as any, so it is tried.
    return measure === undefined ? 0 : measure.average * Math.exp(-(now() - measure.at) / DECAY_MILLISECONDS);
  };
  return {
    pick(_exchange, out) {
      const candidates =
        out.length === 0 ? endpoints : endpoints.filter((endpoint) => !out.includes(endpoint));
      const count = candidates.length;
      if (count <= 1) return candidates[0];
      const first = Math.floor(random() * count);
      const second = (first + 1 + Math.floor(random() * (count - 1))) % count;
      const [a, b] = [candidates[first] as Endpoint, candidates[second] as Endpoint];
      return score(b) < score(a) ? b : a;
    },
    settle(endpoint, outcome) {
      const took = outcome.kind === "answered" ? outcome.milliseconds : FAILURE_MILLISECONDS;
      const at = now();
      const known = measures.get(endpoint);
      if (known === undefined) {
        measures.set(endpoint, { average: took, at });
        return;
      }
      const weight = took > known.average ? 0 : Math.exp(-(at - known.at) / DECAY_MILLISECONDS);
      known.average = known.average * weight + took * (1 - weight);
      known.at = at;
    },
  };
}
