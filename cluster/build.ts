/**
 * Objects in, ClusterModel out: what belongs together is found, and what stands for the same is decided.
 *
 * In: typed objects in any order. Out: the model, the same for every order, and diagnostics.
 *
 * Where the endpoints of a Service come from: its EndpointSlices if there is one at all, even an empty one; else
 * its Endpoints (a cluster mirrors one to the other, so counting both would count twice); else, for a Service with a
 * selector, the Pods that it selects (`pod-endpoints.ts`), because folders of manifests hold Pods and no slices.
 */

import type { Diagnostic } from "./diagnostic.ts";
import type { ClusterModel, EndpointSlice, KubernetesObject, ObjectName, Pod, Service } from "./model.ts";
import { objectName } from "./object-name.ts";
import { endpointSlicesFromPods, PodIndex } from "./pod-endpoints.ts";

export interface BuiltModel {
  readonly model: ClusterModel;
  readonly diagnostics: readonly Diagnostic[];
}

export function buildClusterModel(objects: Iterable<KubernetesObject>): BuiltModel {
  const diagnostics: Diagnostic[] = [];
  const kinds: ObjectsByKind = {
    Ingress: new Map(),
    IngressClass: new Map(),
    Service: new Map(),
    EndpointSlice: new Map(),
    Secret: new Map(),
    ConfigMap: new Map(),
    Node: new Map(),
    Pod: new Map(),
  };
  for (const object of objects) add(kinds, object, diagnostics);
  const services = sorted<ObjectName, Service>(kinds.Service);
  const pods = sorted<ObjectName, Pod>(kinds.Pod);
  const nodes = sorted(kinds.Node);
  return {
    model: {
      ingresses: sorted(kinds.Ingress),
      ingressClasses: sorted(kinds.IngressClass),
      services,
      endpointSlices: gatherSlices(
        kinds.EndpointSlice.values(),
        services,
        new PodIndex(pods.values(), nodes),
      ),
      secrets: sorted(kinds.Secret),
      configMaps: sorted(kinds.ConfigMap),
      nodes,
      pods,
    },
    diagnostics,
  };
}

type ObjectsByKind = {
  readonly [K in KubernetesObject["kind"]]: Map<string, Extract<KubernetesObject, { readonly kind: K }>>;
};

function add(kinds: ObjectsByKind, object: KubernetesObject, diagnostics: Diagnostic[]): void {
  const { namespace, name } = object.meta;
  const key = namespace === "" ? name : objectName(namespace, name);
  switch (object.kind) {
    case "Ingress":
      put(kinds.Ingress, key, object, diagnostics);
      return;
    case "IngressClass":
      put(kinds.IngressClass, key, object, diagnostics);
      return;
    case "Service":
      put(kinds.Service, key, object, diagnostics);
      return;
    case "EndpointSlice":
      // A slice and Endpoints may have one name.
      put(kinds.EndpointSlice, `${key} ${object.source}`, object, diagnostics);
      return;
    case "Secret":
      put(kinds.Secret, key, object, diagnostics);
      return;
    case "ConfigMap":
      put(kinds.ConfigMap, key, object, diagnostics);
      return;
    case "Node":
      put(kinds.Node, key, object, diagnostics);
      return;
    case "Pod":
      put(kinds.Pod, key, object, diagnostics);
      return;
    default:
      object satisfies never;
  }
}

/** Twice the same name is settled where the order is known (`files.ts`); here only so that no order shows in the model. */
function put<T extends KubernetesObject>(
  map: Map<string, T>,
  key: string,
  object: T,
  diagnostics: Diagnostic[],
): void {
  const other = map.get(key);
  if (other === undefined) {
    map.set(key, object);
    return;
  }
  diagnostics.push({
    severity: "warning",
    kind: object.kind,
    object: key,
    message: "it came twice; one of them counts, whatever their order",
  });
  if (JSON.stringify(object) > JSON.stringify(other)) map.set(key, object);
}

function sorted<K extends string, T>(map: ReadonlyMap<string, T>): ReadonlyMap<K, T> {
  // As tools write them out, and lists of an API server come.
  if (isSorted(map.keys())) return map as ReadonlyMap<K, T>;
  const keys = [...map.keys()].sort() as K[];
  return new Map(keys.map((key) => [key, map.get(key) as T]));
}

function isSorted(keys: Iterable<string>): boolean {
  let before = "";
  for (const key of keys) {
    if (key < before) return false;
    before = key;
  }
  return true;
}

const SOURCES: readonly EndpointSlice["source"][] = ["EndpointSlice", "Endpoints"];

function gatherSlices(
  slices: Iterable<EndpointSlice>,
  services: ReadonlyMap<ObjectName, Service>,
  pods: PodIndex,
): ReadonlyMap<ObjectName, readonly EndpointSlice[]> {
  const byService = new Map<ObjectName, EndpointSlice[]>();
  for (const slice of slices) {
    const key = objectName(slice.meta.namespace, slice.serviceName);
    const list = byService.get(key);
    if (list === undefined) byService.set(key, [slice]);
    else list.push(slice);
  }
  for (const [key, list] of byService) {
    if (list.length === 1) continue;
    const source = SOURCES.find((candidate) => list.some((slice) => slice.source === candidate));
    const counting = list.filter((slice) => slice.source === source);
    byService.set(
      key,
      counting.sort((a, b) => (a.meta.name < b.meta.name ? -1 : 1)),
    );
  }
  for (const [key, service] of services) {
    if (byService.has(key)) continue;
    const derived = endpointSlicesFromPods(service, pods);
    if (derived.length > 0) byService.set(key, [...derived]);
  }
  return sorted<ObjectName, EndpointSlice[]>(byService);
}
