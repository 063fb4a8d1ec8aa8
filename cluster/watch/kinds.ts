/** The kinds that can be watched, and where the API has them. */

export type WatchedKind =
  | "Ingress"
  | "IngressClass"
  | "Service"
  | "EndpointSlice"
  | "Secret"
  | "ConfigMap"
  | "Node"
  | "Pod";

interface Resource {
  readonly apiVersion: string;
  readonly plural: string;
  readonly isNamespaced: boolean;
}

export const RESOURCES: Readonly<Record<WatchedKind, Resource>> = {
  Ingress: { apiVersion: "networking.k8s.io/v1", plural: "ingresses", isNamespaced: true },
  IngressClass: { apiVersion: "networking.k8s.io/v1", plural: "ingressclasses", isNamespaced: false },
  Service: { apiVersion: "v1", plural: "services", isNamespaced: true },
  EndpointSlice: { apiVersion: "discovery.k8s.io/v1", plural: "endpointslices", isNamespaced: true },
  Secret: { apiVersion: "v1", plural: "secrets", isNamespaced: true },
  ConfigMap: { apiVersion: "v1", plural: "configmaps", isNamespaced: true },
  Node: { apiVersion: "v1", plural: "nodes", isNamespaced: false },
  Pod: { apiVersion: "v1", plural: "pods", isNamespaced: true },
};

/** The path of a collection: of one namespace, or of all where none is given. */
export function collectionPath(kind: WatchedKind, namespace?: string): string {
  const { apiVersion, plural, isNamespaced } = RESOURCES[kind];
  const root = apiVersion === "v1" ? "/api/v1" : `/apis/${apiVersion}`;
  return namespace === undefined || !isNamespaced
    ? `${root}/${plural}`
    : `${root}/namespaces/${encodeURIComponent(namespace)}/${plural}`;
}

/** The path of one object. */
export function objectPath(kind: WatchedKind, namespace: string, name: string): string {
  return `${collectionPath(kind, namespace)}/${encodeURIComponent(name)}`;
}
