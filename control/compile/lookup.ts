/**
 * Questions to the cluster, remembered with their answers.
 *
 * A compiled host depends on its Ingresses and on whatever its features looked up, a backend on its Service
 * and slices. `stillHolds` tells whether all of that is the very same as before, so that neither is made again.
 */

import type { ClusterModel, ConfigMap, EndpointSlice, Secret, Service } from "../../cluster/model.ts";
import type { ObjectName } from "../../edge-config/config.ts";

interface Kinds {
  readonly configMaps: ConfigMap;
  readonly endpointSlices: readonly EndpointSlice[];
  readonly secrets: Secret;
  readonly services: Service;
}

/** What was asked, and by which name. */
export interface Answer {
  readonly kind: keyof Kinds;
  readonly name: ObjectName;
}

export interface Lookup {
  readonly get: <K extends keyof Kinds>(kind: K, name: ObjectName) => Kinds[K] | undefined;
  readonly answers: readonly Answer[];
}

export function createLookup(model: ClusterModel): Lookup {
  const answers: Answer[] = [];
  return {
    answers,
    get<K extends keyof Kinds>(kind: K, name: ObjectName): Kinds[K] | undefined {
      const objects = model[kind] as ReadonlyMap<ObjectName, Kinds[K]>;
      if (!answers.some((answer) => answer.kind === kind && answer.name === name))
        answers.push({ kind, name });
      return objects.get(name);
    },
  };
}

/** The names of what is not the very same in two models, by kind. */
export type Changes = { readonly [K in keyof Kinds]: ReadonlySet<ObjectName> };

export function changesBetween(before: ClusterModel, after: ClusterModel): Changes {
  return {
    configMaps: changedNames(before.configMaps, after.configMaps),
    endpointSlices: changedNames(before.endpointSlices, after.endpointSlices),
    secrets: changedNames(before.secrets, after.secrets),
    services: changedNames(before.services, after.services),
  };
}

/**
 * Two states of a cluster nearly always have the same names in the same order, so both are walked side by side,
 * without a look-up, as far as that holds.
 */
function changedNames<T>(
  before: ReadonlyMap<ObjectName, T>,
  after: ReadonlyMap<ObjectName, T>,
): ReadonlySet<ObjectName> {
  const changed = new Set<ObjectName>();
  if (before === after) return changed;
  const walk = before[Symbol.iterator]();
  let aligned = before.size === after.size;
  for (const [name, object] of after) {
    const step = aligned ? walk.next() : undefined;
    aligned &&= step?.done === false && step.value[0] === name;
    const old = aligned && step?.done === false ? step.value[1] : before.get(name);
    if (!isSame(old, object)) changed.add(name);
  }
  if (!aligned) for (const name of before.keys()) if (!after.has(name)) changed.add(name);
  return changed;
}

export function stillHolds(answers: readonly Answer[], changes: Changes): boolean {
  return !answers.some(({ kind, name }) => changes[kind].has(name));
}

/** Slices come as a list that may be made anew around the same objects. */
function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  return (
    Array.isArray(a) &&
    Array.isArray(b) &&
    a.length === b.length &&
    a.every((item, index) => item === b[index])
  );
}
