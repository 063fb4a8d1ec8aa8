/**
 * What Fairlead knows of a cluster: Kubernetes objects, typed, validated, with the API's defaults applied.
 *
 * In: nothing. Out: types. Objects are made by `objects/` from whatever an API server or a file holds,
 * and gathered by `build.ts`; nothing beyond this folder reads a raw Kubernetes object.
 * Not here: what an annotation means (`control/features`), which class of Ingress counts (`control/compile`).
 *
 * Fields are spelled as Kubernetes spells them. Optional means that the object may lack it and no default
 * exists; everything that has a default has it.
 */

/** `namespace/name`. */
export type ObjectName = `${string}/${string}`;

/** The state of a cluster at one moment. Maps are keyed by `namespace/name`, or `name` for cluster-scoped kinds. */
export interface ClusterModel {
  readonly ingresses: ReadonlyMap<ObjectName, Ingress>;
  readonly ingressClasses: ReadonlyMap<string, IngressClass>;
  readonly services: ReadonlyMap<ObjectName, Service>;
  /**
   * By the name of the Service; slices in order of their names. Old Endpoints and endpoints derived from Pods
   * are here as slices too, and only where the Service has no real EndpointSlice (`build.ts` tells the order).
   */
  readonly endpointSlices: ReadonlyMap<ObjectName, readonly EndpointSlice[]>;
  readonly secrets: ReadonlyMap<ObjectName, Secret>;
  readonly configMaps: ReadonlyMap<ObjectName, ConfigMap>;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly pods: ReadonlyMap<ObjectName, Pod>;
}

export interface ObjectMeta {
  /** `default` where a namespaced object names none. Empty for cluster-scoped kinds. */
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string;
  /** RFC 3339. Absent in most files: then the object counts as younger than any dated one, by name. */
  readonly creationTimestamp?: string;
  readonly generation?: number;
  readonly resourceVersion?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface Ingress {
  readonly kind: "Ingress";
  /** As the object was written: old manifests were written for an older meaning of some annotations. */
  readonly apiVersion: "networking.k8s.io/v1" | "networking.k8s.io/v1beta1" | "extensions/v1beta1";
  readonly meta: ObjectMeta;
  /** `spec.ingressClassName`; the old annotation stays in `meta.annotations`. */
  readonly ingressClassName?: string;
  readonly defaultBackend?: IngressBackend;
  readonly tls: readonly IngressTls[];
  readonly rules: readonly IngressRule[];
}

export interface IngressTls {
  readonly hosts: readonly string[];
  readonly secretName?: string;
}

export interface IngressRule {
  /** Lower case; empty for a rule of every host. */
  readonly host: string;
  /**
   * Absent: the rule has no `http`, so all of the host goes to the Ingress' default backend. Empty: it has one
   * but none of its paths could be read, so the host is claimed and nothing of it is served.
   */
  readonly paths?: readonly IngressPath[];
}

export interface IngressPath {
  /** `/` where the rule has none. */
  readonly path: string;
  readonly pathType: "Exact" | "Prefix" | "ImplementationSpecific";
  readonly backend: IngressBackend;
}

export type IngressBackend =
  | { readonly kind: "Service"; readonly name: string; readonly port: ServiceBackendPort }
  | {
      readonly kind: "Resource";
      readonly apiGroup: string;
      readonly resourceKind: string;
      readonly name: string;
    };

/** A number or a name, never both. */
export type ServiceBackendPort = { readonly number: number } | { readonly name: string };

export interface IngressClass {
  readonly kind: "IngressClass";
  readonly meta: ObjectMeta;
  readonly controller: string;
  /** Annotation `ingressclass.kubernetes.io/is-default-class: "true"`. */
  readonly isDefault: boolean;
}

export type Protocol = "TCP" | "UDP" | "SCTP";
export type IpFamily = "IPv4" | "IPv6";

export interface Service {
  readonly kind: "Service";
  readonly meta: ObjectMeta;
  readonly type: "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName";
  /** Canonical text. Empty for ExternalName and where the file names none (then the node agent has nothing to program). `["None"]` is headless. */
  readonly clusterIPs: readonly string[];
  readonly externalName?: string;
  readonly ports: readonly ServicePort[];
  readonly selector?: Readonly<Record<string, string>>;
  readonly externalIPs: readonly string[];
  readonly loadBalancerSourceRanges: readonly string[];
  readonly loadBalancerIngress: readonly LoadBalancerIngress[];
  readonly internalTrafficPolicy: "Cluster" | "Local";
  readonly externalTrafficPolicy: "Cluster" | "Local";
  readonly healthCheckNodePort?: number;
  /** Seconds of `sessionAffinity: ClientIP` (default 10800); absent for None. */
  readonly sessionAffinityTimeoutSeconds?: number;
  readonly trafficDistribution?: string;
  readonly publishNotReadyAddresses: boolean;
  readonly allocateLoadBalancerNodePorts: boolean;
}

export interface ServicePort {
  /** Empty for a single unnamed port. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly appProtocol?: string;
  readonly port: number;
  /** A number, or the name of a container port. */
  readonly targetPort: number | string;
  readonly nodePort?: number;
}

export interface LoadBalancerIngress {
  readonly ip?: string;
  readonly hostname?: string;
  readonly ipMode: "VIP" | "Proxy";
}

export interface EndpointSlice {
  readonly kind: "EndpointSlice";
  /** What it was made from. Old Endpoints count only without EndpointSlices, Pods only without either. */
  readonly source: "EndpointSlice" | "Endpoints" | "Pods";
  readonly meta: ObjectMeta;
  /** Label `kubernetes.io/service-name`. */
  readonly serviceName: string;
  readonly addressType: IpFamily | "FQDN";
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
}

export interface EndpointPort {
  readonly name: string;
  readonly protocol: Protocol;
  /** Absent: all ports (the API's nil). */
  readonly port?: number;
  readonly appProtocol?: string;
}

export interface Endpoint {
  /** Canonical text (`10.180.0.1`, `fd00::1`), or DNS names in a slice of addressType FQDN. */
  readonly addresses: readonly string[];
  /** nil in the API means ready. */
  readonly ready: boolean;
  /** nil in the API means the same as ready. */
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly nodeName?: string;
  readonly zone?: string;
  readonly hostname?: string;
  readonly hintsForZones: readonly string[];
  readonly hintsForNodes: readonly string[];
  /** `Pod` `namespace/name`, where the slice tells. */
  readonly pod?: ObjectName;
}

export interface Secret {
  readonly kind: "Secret";
  readonly meta: ObjectMeta;
  readonly type: string;
  /** Decoded bytes by key; `stringData` of a file is merged in. */
  readonly data: ReadonlyMap<string, Uint8Array>;
}

export interface ConfigMap {
  readonly kind: "ConfigMap";
  readonly meta: ObjectMeta;
  readonly data: Readonly<Record<string, string>>;
}

export interface Node {
  readonly kind: "Node";
  readonly meta: ObjectMeta;
  /** In the order of `status.addresses`. */
  readonly addresses: readonly { readonly type: string; readonly address: string }[];
  readonly podCIDRs: readonly string[];
  readonly taints: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
  /** `metadata.deletionTimestamp` is set. */
  readonly deleting: boolean;
}

export interface Pod {
  readonly kind: "Pod";
  readonly meta: ObjectMeta;
  readonly nodeName?: string;
  readonly hostNetwork: boolean;
  readonly podIPs: readonly string[];
  readonly hostIPs: readonly string[];
  readonly phase?: string;
  /** Condition `Ready`; a Pod that was written by hand, with addresses but without conditions, is ready. */
  readonly ready: boolean;
  /** `metadata.deletionTimestamp` is set. */
  readonly terminating: boolean;
  readonly containerPorts: readonly ContainerPort[];
}

export interface ContainerPort {
  readonly name?: string;
  readonly containerPort: number;
  readonly hostPort?: number;
  readonly hostIP?: string;
  readonly protocol: Protocol;
}

/** Any object of the model. */
export type KubernetesObject =
  | Ingress
  | IngressClass
  | Service
  | EndpointSlice
  | Secret
  | ConfigMap
  | Node
  | Pod;
