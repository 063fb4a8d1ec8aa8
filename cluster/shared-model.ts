/**
 * A model that was read anew and whole, as one that shares with the model before whatever means the same: so a compiler
 * that goes by identity does again only what has changed. A model that is watched does so by itself
 * (`watch/live-model.ts`).
 */

import { isDeepStrictEqual } from "node:util";
import type { ClusterModel } from "./model.ts";
import { SortedMap } from "./sorted-map.ts";

/** Equal to `now`. `before`: what this function returned for the model before. */
export function shareModel(before: ClusterModel | undefined, now: ClusterModel): ClusterModel {
  return {
    ingresses: share(before?.ingresses, now.ingresses),
    ingressClasses: share(before?.ingressClasses, now.ingressClasses),
    services: share(before?.services, now.services),
    endpointSlices: share(before?.endpointSlices, now.endpointSlices),
    secrets: share(before?.secrets, now.secrets),
    configMaps: share(before?.configMaps, now.configMaps),
    nodes: share(before?.nodes, now.nodes),
    pods: share(before?.pods, now.pods),
  };
}

function share<K extends string, V>(
  before: ReadonlyMap<K, V> | undefined,
  now: ReadonlyMap<K, V>,
): ReadonlyMap<K, V> {
  if (!(before instanceof SortedMap)) return SortedMap.from(now);
  const changes = new Map<K, V | undefined>();
  for (const [name, object] of now)
    if (!isDeepStrictEqual(before.get(name), object)) changes.set(name, object);
  for (const name of before.keys()) if (!now.has(name)) changes.set(name, undefined);
  return before.with(changes) as SortedMap<K, V>;
}
