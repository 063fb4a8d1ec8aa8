/**
 * Smooth weighted round robin: in any run of (sum of weights) picks each endpoint comes as often as it weighs,
 * and its turns are spread evenly.
 *
 * Isolates start at a random place, so many that start together do not all begin with the first pod; nothing
 * is shared between them.
 */

import type { Balancer, Endpoint } from "./balancer.ts";

/** `weightOf`: positive; absent means equal. `random`: from [0, 1), for tests. */
export function roundRobin(
  endpoints: readonly Endpoint[],
  weightOf?: (endpoint: Endpoint) => number,
  random: () => number = Math.random,
): Balancer {
  const weights = weightOf === undefined ? undefined : endpoints.map(weightOf);
  return weights === undefined || weights.every((weight) => weight === weights[0])
    ? equalTurns(endpoints, random)
    : weightedTurns(endpoints, weights, random);
}

/** With equal weights the smooth order is simply one after the other. */
function equalTurns(endpoints: readonly Endpoint[], random: () => number): Balancer {
  const count = endpoints.length;
  let next = Math.floor(random() * count);
  return {
    pick: (_exchange, tried) => {
      for (let turn = 0; turn < count; turn++) {
        const endpoint = endpoints[next];
        next = next + 1 === count ? 0 : next + 1;
        if (endpoint !== undefined && (tried.length === 0 || !tried.includes(endpoint))) return endpoint;
      }
      return undefined;
    },
  };
}

/**
 * nginx's algorithm: each turn everybody gains its weight, the richest is picked and pays the sum of all.
 * Picks without `tried` alone move the state by whole turns; a retry pays as well, so it is not favoured later.
 */
function weightedTurns(
  endpoints: readonly Endpoint[],
  weights: readonly number[],
  random: () => number,
): Balancer {
  const gained = new Float64Array(endpoints.length);
  const pick = (tried: readonly Endpoint[]): Endpoint | undefined => {
    let best = -1;
    let sum = 0;
    for (let index = 0; index < endpoints.length; index++) {
      if (tried.length > 0 && tried.includes(endpoints[index] as Endpoint)) continue;
      const weight = weights[index] as number;
      const now = (gained[index] as number) + weight;
      gained[index] = now;
      sum += weight;
      if (best === -1 || now > (gained[best] as number)) best = index;
    }
    if (best === -1) return undefined;
    gained[best] = (gained[best] as number) - sum;
    return endpoints[best];
  };
  for (let skipped = Math.floor(random() * endpoints.length); skipped > 0; skipped--) pick([]);
  return { pick: (_exchange, tried) => pick(tried) };
}
