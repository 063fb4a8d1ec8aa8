/** The same text goes to the same endpoint, or to the same few (ingress-nginx's chash and chashsubset). */

import type { Template } from "../../edge-config/template.ts";
import { fillTemplate } from "../template.ts";
import type { Balancer, Endpoint } from "./balancer.ts";
import { type HashRing, hashRing } from "./hash-ring.ts";

export function consistentHash(endpoints: readonly Endpoint[], key: Template): Balancer {
  let ring: HashRing | undefined;
  return {
    pick(exchange, out) {
      ring ??= hashRing(endpoints.map(({ address }) => address));
      const text = fillTemplate(key, exchange);
      const isOut =
        out.length === 0 ? undefined : (member: number) => out.includes(endpoints[member] as Endpoint);
      const member = ring.find(text, isOut);
      return member === undefined ? undefined : endpoints[member];
    },
  };
}

/** Subsets are of equal size: the last one is filled up with endpoints from the beginning of the list. */
export function subsetHash(
  endpoints: readonly Endpoint[],
  key: Template,
  size: number,
  random: () => number = Math.random,
): Balancer {
  const subsets: (readonly Endpoint[])[] = [];
  for (let start = 0; start < endpoints.length; start += size) {
    const subset: Endpoint[] = [];
    for (let at = 0; at < Math.min(size, endpoints.length); at++) {
      subset.push(endpoints[(start + at) % endpoints.length] as Endpoint);
    }
    subsets.push(subset);
  }
  let ring: HashRing | undefined;
  return {
    pick(exchange, out) {
      ring ??= hashRing(subsets.map((_, index) => String(index)));
      const isOut = (member: number) =>
        (subsets[member] as readonly Endpoint[]).every((endpoint) => out.includes(endpoint));
      const member = ring.find(fillTemplate(key, exchange), out.length === 0 ? undefined : isOut);
      const left =
        member === undefined
          ? []
          : (subsets[member] as readonly Endpoint[]).filter((one) => !out.includes(one));
      return left[Math.floor(random() * left.length)];
    },
  };
}
