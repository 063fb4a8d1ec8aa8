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

export function createLiveModel(): LiveModel {
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
      const isChanged = object === undefined ? stores[kind].delete(name) : stores[kind].put(name, object);
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

/** Objects of one kind, in order of their names. A view that was given out is never changed. */
class SortedObjects<K extends WatchedKind> implements Store {
  readonly #objects = new Map<string, ObjectOf<K>>();
  readonly #view = new SortedView<ObjectOf<K>>();

  put(name: string, object: KubernetesObject): boolean {
    const before = this.#objects.get(name);
    if (before !== undefined && isDeepStrictEqual(before, object)) return false;
    this.#objects.set(name, object as ObjectOf<K>);
    this.#view.touch(name);
    return true;
  }

  delete(name: string): boolean {
    if (!this.#objects.delete(name)) return false;
    this.#view.touch(name);
    return true;
  }

  view(): ReadonlyMap<string, ObjectOf<K>> {
    return this.#view.of((name) => this.#objects.get(name));
  }
}

/** EndpointSlices under the names of their Services. */
class SlicesByService implements Store {
  readonly #slices = new Map<string, EndpointSlice>();
  /** In order of their names. A list that was given out is never changed. */
  readonly #byService = new Map<string, readonly EndpointSlice[]>();
  readonly #view = new SortedView<readonly EndpointSlice[]>();

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
    this.#view.touch(service);
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
    return this.#view.of((service) => this.#byService.get(service)) as ClusterModel["endpointSlices"];
  }

  #remove(slice: EndpointSlice): void {
    const service = serviceOf(slice);
    const others = (this.#byService.get(service) ?? []).filter((other) => other !== slice);
    if (others.length > 0) this.#byService.set(service, others);
    else this.#byService.delete(service);
    this.#view.touch(service);
  }
}

function serviceOf({ meta, serviceName }: EndpointSlice): ObjectName {
  return `${meta.namespace}/${serviceName}`;
}

/** The last map that was given out, and which of its names have changed since. */
class SortedView<T> {
  #map: SortedMap<string, T> = SortedMap.from<string, T>([]);
  readonly #touched = new Set<string>();

  touch(name: string): void {
    this.#touched.add(name);
  }

  /** `read`: what a name stands for now; `undefined` where there is no such object any more. */
  of(read: (name: string) => T | undefined): ReadonlyMap<string, T> {
    if (this.#touched.size === 0) return this.#map;
    const changes = new Map<string, T | undefined>();
    for (const name of this.#touched) changes.set(name, read(name));
    this.#touched.clear();
    this.#map = this.#map.with(changes);
    return this.#map;
  }
}
