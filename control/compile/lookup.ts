/**
 * Questions to the cluster, remembered with their answers.
 *
 * A compiled host depends on its Ingresses and on whatever its features looked up, a backend on its Service
 * and slices. `stillHolds` tells whether all of that is the very same as before, so that neither is made again.
 */

import type { ClusterModel, ConfigMap, EndpointSlice, Secret, Service } from "../../cluster/model.ts";
import { changedKeys } from "../../cluster/sorted-map.ts";
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

function changedNames<T>(
  before: ReadonlyMap<ObjectName, T>,
  after: ReadonlyMap<ObjectName, T>,
): ReadonlySet<ObjectName> {
  const changed = new Set<ObjectName>();
  for (const name of changedKeys(before, after))
    if (!isSame(before.get(name), after.get(name))) changed.add(name);
  return changed;
}

export function stillHolds(answers: readonly Answer[], changes: Changes): boolean {
  return !answers.some(({ kind, name }) => changes[kind].has(name));
}

/** Who asked for what: so a change finds what it makes stale without a look at all the rest. */
export class Askers<N extends string> {
  readonly #byKind: { readonly [K in keyof Kinds]: Map<ObjectName, Set<N>> } = {
    configMaps: new Map(),
    endpointSlices: new Map(),
    secrets: new Map(),
    services: new Map(),
  };

  constructor(all: Iterable<readonly [N, readonly Answer[]]>) {
    for (const [asker, answers] of all) this.#add(asker, answers);
  }

  replace(asker: N, before: readonly Answer[], after: readonly Answer[]): void {
    const isSameQuestion = (answer: Answer, at: number): boolean =>
      answer.kind === before[at]?.kind && answer.name === before[at].name;
    if (after.length === before.length && after.every(isSameQuestion)) return;
    for (const { kind, name } of before) {
      const askers = this.#byKind[kind].get(name);
      askers?.delete(asker);
      if (askers?.size === 0) this.#byKind[kind].delete(name);
    }
    this.#add(asker, after);
  }

  /** Those of whom an answer is another than before. */
  staleAfter(changes: Changes): ReadonlySet<N> {
    const stale = new Set<N>();
    for (const kind of Object.keys(changes) as (keyof Kinds)[])
      for (const name of changes[kind])
        for (const asker of this.#byKind[kind].get(name) ?? []) stale.add(asker);
    return stale;
  }

  #add(asker: N, answers: readonly Answer[]): void {
    for (const { kind, name } of answers) {
      const askers = this.#byKind[kind].get(name);
      if (askers === undefined) this.#byKind[kind].set(name, new Set([asker]));
      else askers.add(asker);
    }
  }
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
