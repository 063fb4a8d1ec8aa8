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

/** What was asked, and which object, if any, was the answer. */
export interface Answer {
  readonly kind: keyof Kinds;
  readonly name: ObjectName;
  readonly object: Kinds[keyof Kinds] | undefined;
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
      const object = objects.get(name);
      if (!answers.some((answer) => answer.kind === kind && answer.name === name))
        answers.push({ kind, name, object });
      return object;
    },
  };
}

export function stillHolds(answers: readonly Answer[], model: ClusterModel): boolean {
  return answers.every(({ kind, name, object }) => isSame(model[kind].get(name), object));
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
