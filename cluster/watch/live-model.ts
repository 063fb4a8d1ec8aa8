/**
 * A ClusterModel that follows changes.
 *
 * In: raw objects, put and deleted one by one. Out: a model whenever it is asked for, the same that
 * `buildClusterModel` makes of all objects at once (`live-model.test.ts` compares them), at a cost that goes with the
 * change: maps of kinds without a change are the very same as before, and so is every object that means the same.
 *
 * Not here: Endpoints, and endpoints made of Pods. An API server has EndpointSlices for every Service.
 */

import { isDeepStrictEqual } from "node:util";
import type { Diagnostic } from "../diagnostic.ts";
import type { ClusterModel, EndpointSlice, KubernetesObject, ObjectName } from "../model.ts";
import { objectName } from "../object-name.ts";
import { parseObject } from "../objects/parse.ts";
import { SortedMap } from "../sorted-map.ts";
import type { WatchedKind } from "./kinds.ts";
import type { RawObject } from "./reflector.ts";
import { trimmed } from "./trim.ts";

export interface LiveModel {
  /** False: it means the same as before. */
  readonly put: (kind: WatchedKind, name: string, raw: RawObject) => boolean;
  readonly delete: (kind: WatchedKind, name: string) => boolean;
  readonly snapshot: () => { readonly model: ClusterModel; readonly diagnostics: readonly Diagnostic[] };
}

/** `keep`: what of an object is worth keeping; what means the same must give the same. */
export function createLiveModel(
  keep: (object: KubernetesObject) => KubernetesObject = (object) => object,
): LiveModel {
  const ingresses = new SortedObjects<"Ingress">();
  const ingressClasses = new SortedObjects<"IngressClass">();
  const services = new SortedObjects<"Service">();
  const secrets = new SortedObjects<"Secret">();
  const configMaps = new SortedObjects<"ConfigMap">();
  const nodes = new SortedObjects<"Node">();
  const pods = new SortedObjects<"Pod">();
  const endpointSlices = new SlicesByService();
  const stores: { readonly [K in WatchedKind]: Store } = {
    Ingress: ingresses,
    IngressClass: ingressClasses,
    Service: services,
    Secret: secrets,
    ConfigMap: configMaps,
    Node: nodes,
    Pod: pods,
    EndpointSlice: endpointSlices,
  };
  const diagnosticsOf = new Map<string, readonly Diagnostic[]>();
  let diagnostics: readonly Diagnostic[] | undefined = [];

  const tell = (key: string, found: readonly Diagnostic[]): boolean => {
    const before = diagnosticsOf.get(key) ?? [];
    if (isDeepStrictEqual(before, found)) return false;
    if (found.length === 0) diagnosticsOf.delete(key);
    else diagnosticsOf.set(key, found);
    diagnostics = undefined;
    return true;
  };

  return {
    put: (kind, name, raw) => {
      const parsed = parseObject(trimmed(raw));
      const [object] = parsed.objects;
      const isNew = tell(`${kind} ${name}`, parsed.diagnostics);
      const isChanged =
        object === undefined ? stores[kind].delete(name) : stores[kind].put(name, keep(object));
      return isNew || isChanged;
    },
    delete: (kind, name) => {
      const isNew = tell(`${kind} ${name}`, []);
      const isChanged = stores[kind].delete(name);
      return isNew || isChanged;
    },
    snapshot: () => {
      diagnostics ??= [...diagnosticsOf].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([, found]) => found);
      return {
        model: {
          ingresses: ingresses.view() as ClusterModel["ingresses"],
          ingressClasses: ingressClasses.view(),
          services: services.view() as ClusterModel["services"],
          endpointSlices: endpointSlices.view(),
          secrets: secrets.view() as ClusterModel["secrets"],
          configMaps: configMaps.view() as ClusterModel["configMaps"],
          nodes: nodes.view(),
          pods: pods.view() as ClusterModel["pods"],
        },
        diagnostics,
      };
    },
  };
}

interface Store {
  readonly put: (name: string, object: KubernetesObject) => boolean;
  readonly delete: (name: string) => boolean;
}

type ObjectOf<K extends WatchedKind> = Extract<KubernetesObject, { readonly kind: K }>;

/** Objects of one kind, in order of their names. */
class SortedObjects<K extends WatchedKind> implements Store {
  readonly #objects = new SortedEntries<ObjectOf<K>>();

  put(name: string, object: KubernetesObject): boolean {
    const before = this.#objects.get(name);
    if (before !== undefined && isDeepStrictEqual(before, object)) return false;
    this.#objects.set(name, object as ObjectOf<K>);
    return true;
  }

  delete(name: string): boolean {
    if (this.#objects.get(name) === undefined) return false;
    this.#objects.set(name, undefined);
    return true;
  }

  view(): ReadonlyMap<string, ObjectOf<K>> {
    return this.#objects.view();
  }
}

/** EndpointSlices under the names of their Services. */
class SlicesByService implements Store {
  readonly #slices = new Map<string, EndpointSlice>();
  /** In order of their names. A list that was given out is never changed. */
  readonly #byService = new SortedEntries<readonly EndpointSlice[]>();

  put(name: string, object: KubernetesObject): boolean {
    if (object.kind !== "EndpointSlice") return false;
    const before = this.#slices.get(name);
    if (before !== undefined && isDeepStrictEqual(before, object)) return false;
    const service = serviceOf(object);
    if (before !== undefined && serviceOf(before) !== service) this.#remove(before);
    this.#slices.set(name, object);
    const others = (this.#byService.get(service) ?? []).filter((other) => other !== before);
    const place = others.findIndex((other) => object.meta.name < other.meta.name);
    this.#byService.set(service, others.toSpliced(place < 0 ? others.length : place, 0, object));
    return true;
  }

  delete(name: string): boolean {
    const before = this.#slices.get(name);
    if (before === undefined) return false;
    this.#slices.delete(name);
    this.#remove(before);
    return true;
  }

  view(): ClusterModel["endpointSlices"] {
    return this.#byService.view() as ClusterModel["endpointSlices"];
  }

  #remove(slice: EndpointSlice): void {
    const service = serviceOf(slice);
    const others = (this.#byService.get(service) ?? []).filter((other) => other !== slice);
    this.#byService.set(service, others.length > 0 ? others : undefined);
  }
}

function serviceOf({ meta, serviceName }: EndpointSlice): ObjectName {
  return objectName(meta.namespace, serviceName);
}

/** Entries that change one by one, and are looked at as a whole now and then. A view that was given out is never changed. */
class SortedEntries<T> {
  #map: SortedMap<string, T> = SortedMap.from<string, T>([]);
  /** What the map does not say yet; `undefined`: gone. */
  #changes = new Map<string, T | undefined>();

  get(name: string): T | undefined {
    return this.#changes.has(name) ? this.#changes.get(name) : this.#map.get(name);
  }

  set(name: string, value: T | undefined): void {
    this.#changes.set(name, value);
  }

  view(): ReadonlyMap<string, T> {
    if (this.#changes.size === 0) return this.#map;
    this.#map = this.#map.with(this.#changes);
    // A new one: a map keeps the room that its first list took.
    this.#changes = new Map();
    return this.#map;
  }
}
