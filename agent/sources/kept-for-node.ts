/**
 * What of a cluster's objects a node goes on to need once they are read. There are hundred thousands of them on every node,
 * and what people and controllers write into their metadata is larger than all the rest.
 *
 * In: an object. Out: one that means the same to a node. What is kept stands in as few objects and lists as can be, because
 * each costs V8 a head of its own; what many have in common they share. So these are no plain objects: spreading one, or
 * writing it out as JSON, shows how it is kept.
 */

import type {
  Endpoint,
  EndpointPort,
  EndpointSlice,
  KubernetesObject,
  ObjectMeta,
  Service,
  ServicePort,
} from "../../cluster/model.ts";
import { bareMap } from "../../cluster/yaml/bare-map.ts";
import { HEADLESS, SERVICE_PROXY_NAME } from "../proxied-service.ts";
import { TRIGGER_TIME } from "../service-follower.ts";

/** Annotations of a Service that say how it is to be balanced. */
const OWN_ANNOTATIONS = "fairlead.dev/";

export function keptForNode(object: KubernetesObject): KubernetesObject {
  switch (object.kind) {
    case "Service":
      // Whether a field is absent or undefined makes no difference to who reads it.
      return new KeptService(object) as Service;
    case "EndpointSlice":
      return new KeptEndpointSlice(object);
    default:
      return object;
  }
}

type Texts = Readonly<Record<string, string>>;

/** What ten thousands of Services have alike. */
type ServiceCommons = Omit<
  Service,
  "kind" | "meta" | "clusterIPs" | "ports" | "selector" | "trafficDistribution"
>;

// What is compared when an object comes again are its own fields, so none of them is private to the language.
class KeptService {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string | undefined;
  /** Seconds, where that says all of it. */
  readonly created: number | string | undefined;
  readonly labels: Texts;
  readonly annotations: Texts;
  /** With commas between. */
  readonly addresses: string;
  readonly ports: readonly ServicePort[];
  readonly commons: ServiceCommons;

  constructor({
    kind: _,
    meta,
    clusterIPs,
    ports,
    selector: __,
    trafficDistribution: ___,
    ...commons
  }: Service) {
    this.namespace = meta.namespace;
    this.name = meta.name;
    this.uid = meta.uid;
    this.created = keptTime(meta.creationTimestamp);
    this.labels = only(meta.labels, (label) => label === SERVICE_PROXY_NAME || label === HEADLESS);
    this.annotations = only(meta.annotations, (annotation) => annotation.startsWith(OWN_ANNOTATIONS));
    this.addresses = clusterIPs.join();
    this.ports = shared(ports);
    this.commons = shared(commons);
  }

  get kind(): "Service" {
    return "Service";
  }

  get meta(): ObjectMeta {
    const { namespace, name, uid, labels, annotations } = this;
    const creationTimestamp = readTime(this.created);
    return {
      namespace,
      name,
      ...(uid !== undefined && { uid }),
      ...(creationTimestamp !== undefined && { creationTimestamp }),
      labels,
      annotations,
    };
  }

  get clusterIPs(): readonly string[] {
    return this.addresses === "" ? [] : this.addresses.split(",");
  }

  get type() {
    return this.commons.type;
  }

  get externalName() {
    return this.commons.externalName;
  }

  get externalIPs() {
    return this.commons.externalIPs;
  }

  get loadBalancerSourceRanges() {
    return this.commons.loadBalancerSourceRanges;
  }

  get loadBalancerIngress() {
    return this.commons.loadBalancerIngress;
  }

  get internalTrafficPolicy() {
    return this.commons.internalTrafficPolicy;
  }

  get externalTrafficPolicy() {
    return this.commons.externalTrafficPolicy;
  }

  get healthCheckNodePort() {
    return this.commons.healthCheckNodePort;
  }

  get sessionAffinityTimeoutSeconds() {
    return this.commons.sessionAffinityTimeoutSeconds;
  }

  get publishNotReadyAddresses() {
    return this.commons.publishNotReadyAddresses;
  }

  get allocateLoadBalancerNodePorts() {
    return this.commons.allocateLoadBalancerNodePorts;
  }
}

function keptTime(text: string | undefined): number | string | undefined {
  if (text === undefined) return undefined;
  const seconds = Date.parse(text) / 1000;
  return readTime(seconds) === text ? seconds : text;
}

/** RFC 3339, as an API server writes it. */
function readTime(kept: number | string | undefined): string | undefined {
  if (typeof kept !== "number" || !Number.isInteger(kept)) return kept?.toString();
  return new Date(kept * 1000).toISOString().replace(".000Z", "Z");
}

/** What most slices have alike. */
type SliceCommons = Pick<EndpointSlice, "source" | "addressType"> & {
  readonly ports: readonly EndpointPort[];
};

/** Its labels say whose it is, which `serviceName` says too. */
class KeptEndpointSlice implements EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  readonly annotations: Texts;
  readonly serviceName: string;
  readonly commons: SliceCommons;
  readonly endpoints: readonly Endpoint[];

  constructor({ source, meta, serviceName, addressType, ports, endpoints }: EndpointSlice) {
    this.namespace = meta.namespace;
    this.name = meta.name;
    this.annotations = only(meta.annotations, (annotation) => annotation === TRIGGER_TIME);
    this.serviceName = serviceName;
    this.commons = shared({ source, addressType, ports });
    this.endpoints = endpoints.map((endpoint) => new KeptEndpoint(endpoint) as Endpoint);
  }

  get kind(): "EndpointSlice" {
    return "EndpointSlice";
  }

  get source() {
    return this.commons.source;
  }

  get meta(): ObjectMeta {
    const { namespace, name, annotations } = this;
    return { namespace, name, labels: NOTHING, annotations };
  }

  get addressType() {
    return this.commons.addressType;
  }

  get ports() {
    return this.commons.ports;
  }
}

/** What the endpoints of a node are like: nearly all of them are ready. */
type EndpointCommons = Omit<Endpoint, "addresses" | "hostname" | "pod">;

class KeptEndpoint {
  /** The only one of nearly all endpoints. */
  readonly address: string;
  readonly commons: EndpointCommons;

  constructor({ addresses, hostname: _, pod: __, ...commons }: Endpoint) {
    // The API calls further ones fungible, and kube-proxy looks at none of them either.
    this.address = addresses[0] ?? "";
    this.commons = shared(commons);
  }

  get addresses(): readonly string[] {
    return this.address === "" ? [] : [this.address];
  }

  get ready() {
    return this.commons.ready;
  }

  get serving() {
    return this.commons.serving;
  }

  get terminating() {
    return this.commons.terminating;
  }

  get nodeName() {
    return this.commons.nodeName;
  }

  get zone() {
    return this.commons.zone;
  }

  get hintsForZones() {
    return this.commons.hintsForZones;
  }

  get hintsForNodes() {
    return this.commons.hintsForNodes;
  }
}

/** What is shared, by what is in it. */
const SHARED = new Map<string, object>();
/** More than most clusters have; then it begins anew, and what is kept already goes on to be shared. */
const MOST_SHARED = 10_000;

function shared<T extends object>(value: T): T {
  const key = JSON.stringify(value);
  const known = SHARED.get(key);
  if (known !== undefined) return known as T;
  if (SHARED.size >= MOST_SHARED) SHARED.clear();
  SHARED.set(key, value);
  return value;
}

const NOTHING: Texts = Object.freeze(bareMap<string>());

/** The entries that count; nearly always there are none. */
function only(texts: Texts, counts: (key: string) => boolean): Texts {
  const keys = Object.keys(texts).filter(counts);
  if (keys.length === 0) return NOTHING;
  const kept = bareMap<string>();
  for (const key of keys) kept[key] = texts[key] ?? "";
  return kept;
}
