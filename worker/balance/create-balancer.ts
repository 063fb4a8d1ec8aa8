/** Where the algorithm of a backend's policy is chosen. */

import type { Backend } from "../../edge-config/config.ts";
import type { Balancer, Endpoint } from "./balancer.ts";
import { consistentHash, subsetHash } from "./consistent-hash.ts";
import { ewma } from "./ewma.ts";
import { withHealth } from "./health.ts";
import { roundRobin } from "./round-robin.ts";

export function createBalancer({ policies }: Backend, endpoints: readonly Endpoint[]): Balancer {
  const balancer = algorithm(policies?.balancing, endpoints);
  // With one endpoint there is nobody else to ask.
  return endpoints.length > 1 ? withHealth(balancer, endpoints) : balancer;
}

function algorithm(
  policy: NonNullable<Backend["policies"]>["balancing"],
  endpoints: readonly Endpoint[],
): Balancer {
  switch (policy?.kind) {
    case undefined:
      return roundRobin(endpoints);
    case "Ewma":
      return ewma(endpoints);
    case "Hash":
      return policy.subsetSize === undefined
        ? consistentHash(endpoints, policy.key)
        : subsetHash(endpoints, policy.key, policy.subsetSize);
    default:
      return policy satisfies never;
  }
}
