/**
 * Small clusters for tests and benches, written as objects rather than as YAML.
 *
 * Only what a case is about is written; the rest has the API's defaults. Tests of what people really write use
 * manifests (`tests/golden`).
 */

import type {
  ClusterModel,
  ConfigMap,
  EndpointSlice,
  Ingress,
  IngressBackend,
  IngressClass,
  IngressPath,
  KubernetesObject,
  ObjectMeta,
  ObjectName,
  Secret,
  Service,
  ServicePort,
} from "../cluster/model.ts";

export function meta(name: ObjectName, extra: Partial<ObjectMeta> = {}): ObjectMeta {
  const [namespace = "", own = ""] = name.split("/");
  return { namespace, name: own, labels: {}, annotations: {}, ...extra };
}

/** `web:80` or `web:http`. */
export function backend(text: string): IngressBackend {
  const [name = "", port = ""] = text.split(":");
  return { kind: "Service", name, port: /^[0-9]+$/.test(port) ? { number: Number(port) } : { name: port } };
}

/** `Prefix /path web:80`; the type may be left out and is then Prefix. */
export function path(text: string): IngressPath {
  const words = text.split(" ");
  const [pathType = "Prefix", where = "/", to = ""] = words.length === 3 ? words : ["Prefix", ...words];
  return { path: where, pathType: pathType as IngressPath["pathType"], backend: backend(to) };
}

interface IngressSketch {
  /** Host → paths, each as `path` reads it; `null` for a rule without `http`; host `""` for every host. */
  readonly rules?: Readonly<Record<string, readonly string[] | null>>;
  readonly defaultBackend?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Shorthand for `annotations` under `nginx.ingress.kubernetes.io/`. */
  readonly nginx?: Readonly<Record<string, string>>;
  readonly className?: string;
  readonly created?: string;
  readonly tls?: Ingress["tls"];
}

export function ingress(name: ObjectName, sketch: IngressSketch = {}): Ingress {
  const annotations: Record<string, string> = { ...sketch.annotations };
  for (const [key, text] of Object.entries(sketch.nginx ?? {}))
    annotations[`nginx.ingress.kubernetes.io/${key}`] = text;
  return {
    kind: "Ingress",
    apiVersion: "networking.k8s.io/v1",
    meta: meta(name, {
      annotations,
      ...(sketch.created === undefined ? {} : { creationTimestamp: sketch.created }),
    }),
    ...(sketch.className === undefined ? {} : { ingressClassName: sketch.className }),
    ...(sketch.defaultBackend === undefined ? {} : { defaultBackend: backend(sketch.defaultBackend) }),
    tls: sketch.tls ?? [],
    rules: Object.entries(sketch.rules ?? {}).map(([host, paths]) =>
      paths === null ? { host } : { host, paths: paths.map(path) },
    ),
  };
}

export function ingressClass(name: string, isDefault = false): IngressClass {
  return {
    kind: "IngressClass",
    meta: { namespace: "", name, labels: {}, annotations: {} },
    controller: "k8s.io/ingress-nginx",
    isDefault,
  };
}

/** `80`, `http=80`, `http=80>8080`, `dns=53>53/UDP`. */
export function port(text: string): ServicePort {
  const [, name = "", number = "", target, protocol = "TCP"] =
    /^(?:([a-z0-9-]+)=)?([0-9]+)(?:>([^/]+))?(?:\/(.+))?$/.exec(text) ?? [];
  const targetPort = target ?? number;
  return {
    name,
    protocol: protocol as ServicePort["protocol"],
    port: Number(number),
    targetPort: /^[0-9]+$/.test(targetPort) ? Number(targetPort) : targetPort,
  };
}

export function service(name: ObjectName, ports: readonly string[], extra: Partial<Service> = {}): Service {
  return {
    kind: "Service",
    meta: meta(name),
    type: "ClusterIP",
    clusterIPs: ["172.30.0.1"],
    ports: ports.map(port),
    externalIPs: [],
    loadBalancerSourceRanges: [],
    loadBalancerIngress: [],
    internalTrafficPolicy: "Cluster",
    externalTrafficPolicy: "Cluster",
    publishNotReadyAddresses: false,
    allocateLoadBalancerNodePorts: true,
    ...extra,
  };
}

/** A slice of a Service; ports as `name=number`, an address ending in `!` is not ready. */
export function slice(
  serviceName: ObjectName,
  ports: readonly string[],
  addresses: readonly string[],
  suffix = "a",
): EndpointSlice {
  const own = meta(serviceName);
  return {
    kind: "EndpointSlice",
    source: "EndpointSlice",
    meta: { ...own, name: `${own.name}-${suffix}` },
    serviceName: own.name,
    addressType: addresses.some((address) => address.includes(":")) ? "IPv6" : "IPv4",
    ports: ports.map((text) => {
      const { name, protocol, port: number } = port(text);
      return { name, protocol, port: number };
    }),
    endpoints: addresses.map((address) => ({
      addresses: [address.replace("!", "")],
      ready: !address.endsWith("!"),
      serving: !address.endsWith("!"),
      terminating: false,
      hintsForZones: [],
      hintsForNodes: [],
    })),
  };
}

export function configMap(name: ObjectName, data: Readonly<Record<string, string>>): ConfigMap {
  return { kind: "ConfigMap", meta: meta(name), data };
}

export function secret(name: ObjectName, data: Readonly<Record<string, string>>): Secret {
  const bytes = Object.entries(data).map(([key, text]) => [key, new TextEncoder().encode(text)] as const);
  return { kind: "Secret", meta: meta(name), type: "Opaque", data: new Map(bytes) };
}

/** A model of these objects. Of several objects with one name the last counts. */
export function modelOf(...objects: readonly KubernetesObject[]): ClusterModel {
  const model = {
    ingresses: new Map<ObjectName, Ingress>(),
    ingressClasses: new Map<string, IngressClass>(),
    services: new Map<ObjectName, Service>(),
    endpointSlices: new Map<ObjectName, readonly EndpointSlice[]>(),
    secrets: new Map<ObjectName, Secret>(),
    configMaps: new Map<ObjectName, ConfigMap>(),
    nodes: new Map(),
    pods: new Map(),
  };
  for (const object of objects) {
    const name: ObjectName = `${object.meta.namespace}/${object.meta.name}`;
    switch (object.kind) {
      case "Ingress":
        model.ingresses.set(name, object);
        break;
      case "IngressClass":
        model.ingressClasses.set(object.meta.name, object);
        break;
      case "Service":
        model.services.set(name, object);
        break;
      case "EndpointSlice": {
        const owner: ObjectName = `${object.meta.namespace}/${object.serviceName}`;
        const slices = [...(model.endpointSlices.get(owner) ?? []), object];
        model.endpointSlices.set(
          owner,
          slices.sort((a, b) => (a.meta.name < b.meta.name ? -1 : 1)),
        );
        break;
      }
      case "Secret":
        model.secrets.set(name, object);
        break;
      case "ConfigMap":
        model.configMaps.set(name, object);
        break;
      case "Node":
      case "Pod":
        throw new Error("Nodes and Pods are the node agent's; no edge configuration depends on them.");
      default:
        object satisfies never;
    }
  }
  return model;
}
