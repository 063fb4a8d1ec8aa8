/**
 * Who comes first where several Ingresses ask for the same thing: the oldest, and of equally old ones the one
 * whose `namespace/name` is last in the alphabet, as in ingress-nginx (reference §2.1). An Ingress without a
 * creation time, as in most files, is younger than any that has one.
 */

import type { Ingress } from "../../cluster/model.ts";
import type { ObjectName } from "../../edge-config/config.ts";

export function nameOf({
  meta,
}: {
  readonly meta: { readonly namespace: string; readonly name: string };
}): ObjectName {
  return `${meta.namespace}/${meta.name}`;
}

/** A new list, the one that wins first. */
export function oldestFirst(ingresses: Iterable<Ingress>): readonly Ingress[] {
  return Array.from(ingresses, (ingress) => ({ ingress, age: birth(ingress), name: nameOf(ingress) }))
    .sort((a, b) => a.age - b.age || (a.name > b.name ? -1 : a.name < b.name ? 1 : 0))
    .map(({ ingress }) => ingress);
}

/** Whether one comes before another. */
export function isOlder(one: Ingress, other: Ingress): boolean {
  return birth(one) - birth(other) < 0 || (birth(one) === birth(other) && nameOf(one) > nameOf(other));
}

const UNDATED = Number.MAX_SAFE_INTEGER;

function birth({ meta }: Ingress): number {
  const time = meta.creationTimestamp === undefined ? Number.NaN : Date.parse(meta.creationTimestamp);
  return Number.isNaN(time) ? UNDATED : time;
}

/** By UTF-16 code units: the same on every machine, whatever its locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
