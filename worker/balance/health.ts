/**
 * Endpoints that fail are put aside for a while: KV tells of a dead pod late, so the edge must see for itself.
 *
 * In: any balancer. Out: the same, passing over endpoints that failed. Each failure in a row puts an endpoint aside for
 * twice as long, with jitter so that isolates do not all come back at once; when its time is over it gets requests
 * again, few at first. Are all aside, all are asked: a blackout would be worse than a failed try.
 * State lives in this isolate alone, with the `Endpoint` objects.
 */

import type { Balancer, Endpoint } from "./balancer.ts";

const FIRST_ASIDE_MILLISECONDS = 1_000;
const LONGEST_ASIDE_MILLISECONDS = 60_000;
const SLOW_START_MILLISECONDS = 10_000;

interface Illness {
  failuresInARow: number;
  asideUntil: number;
}

const illnesses = new WeakMap<Endpoint, Illness>();

export function withHealth(
  balancer: Balancer,
  endpoints: readonly Endpoint[],
  {
    random = Math.random,
    now = Date.now,
  }: { readonly random?: () => number; readonly now?: () => number } = {},
): Balancer {
  /** Nobody is ill nearly always: then nothing is looked at. Endpoints that stay may be, from the balancer before. */
  let ill = new Set(endpoints.filter((endpoint) => illnesses.has(endpoint)));

  const isPassedOver = (endpoint: Endpoint, at: number): boolean => {
    const illness = illnesses.get(endpoint);
    if (illness === undefined) return false;
    if (at < illness.asideUntil) return true;
    const back = (at - illness.asideUntil) / SLOW_START_MILLISECONDS;
    return back < 1 && random() > Math.max(0.1, back);
  };

  return {
    pick(exchange, tried) {
      if (ill.size === 0) return balancer.pick(exchange, tried);
      const at = now();
      const out = [...tried];
      for (const endpoint of ill)
        if (isPassedOver(endpoint, at) && !out.includes(endpoint)) out.push(endpoint);
      return balancer.pick(exchange, out) ?? balancer.pick(exchange, tried);
    },
    settle(endpoint, outcome) {
      balancer.settle?.(endpoint, outcome);
      if (outcome.kind === "answered") {
        const illness = illnesses.get(endpoint);
        if (illness !== undefined && now() >= illness.asideUntil + SLOW_START_MILLISECONDS) {
          illnesses.delete(endpoint);
          ill.delete(endpoint);
        }
        return;
      }
      const illness = illnesses.get(endpoint) ?? { failuresInARow: 0, asideUntil: 0 };
      const at = now();
      // Several requests that fail together are one failure.
      if (at < illness.asideUntil) return;
      const aside = Math.min(
        LONGEST_ASIDE_MILLISECONDS,
        FIRST_ASIDE_MILLISECONDS * 2 ** illness.failuresInARow,
      );
      illness.failuresInARow++;
      illness.asideUntil = at + aside * (0.75 + random() / 2);
      illnesses.set(endpoint, illness);
      ill = new Set(ill).add(endpoint);
    },
  };
}
