/**
 * The endpoints of a Service from the Pods that it selects, for manifests that hold Pods and no EndpointSlices.
 *
 * In: a Service and an index of all Pods. Out: EndpointSlices with the source `Pods`, as the EndpointSlice controller of
 * Kubernetes would write them (pkg/controller/endpointslice):
 * - the Service has a selector with at least one label, and a Pod of its namespace has every label of it;
 * - the Pod has an address of the Service's family: that of its ClusterIPs, or else that of the Pod's first address;
 * - it has not come to its end (phase Succeeded or Failed);
 * - it is ready where its condition Ready says so and it is not being deleted, or where the Service publishes
 *   addresses that are not ready; it serves where the condition says so; it terminates while it is being deleted;
 * - a named target port is looked up among the Pod's container ports of the same protocol; a Pod without it has no such port.
 */

import { parseIpAddress } from "./ip-address.ts";
import type {
  Endpoint,
  EndpointPort,
  EndpointSlice,
  IpFamily,
  Node,
  ObjectName,
  Pod,
  Service,
} from "./model.ts";

const ZONE_LABEL = "topology.kubernetes.io/zone";

/** Pods, found by one label at a time instead of by looking at all of them for every Service. */
export class PodIndex {
  readonly #byLabel = new Map<string, Pod[]>();
  readonly #nodes: ReadonlyMap<string, Node>;

  constructor(pods: Iterable<Pod>, nodes: ReadonlyMap<string, Node>) {
    this.#nodes = nodes;
    for (const pod of pods) {
      for (const [label, value] of Object.entries(pod.meta.labels)) {
        const key = labelKey(pod.meta.namespace, label, value);
        const list = this.#byLabel.get(key);
        if (list === undefined) this.#byLabel.set(key, [pod]);
        else list.push(pod);
      }
    }
  }

  /** Pods with every label of the selector, in the order of their names. An empty selector selects nothing. */
  selected(namespace: string, selector: Readonly<Record<string, string>>): readonly Pod[] {
    const [first, ...rest] = Object.entries(selector);
    if (first === undefined) return [];
    const pods = this.#byLabel.get(labelKey(namespace, ...first)) ?? [];
    return pods
      .filter((pod) => rest.every(([label, value]) => pod.meta.labels[label] === value))
      .sort((a, b) => (a.meta.name < b.meta.name ? -1 : 1));
  }

  zoneOf(pod: Pod): string | undefined {
    return pod.nodeName === undefined ? undefined : this.#nodes.get(pod.nodeName)?.meta.labels[ZONE_LABEL];
  }
}

function labelKey(namespace: string, label: string, value: string): string {
  return `${namespace}\n${label}\n${value}`;
}

export function endpointSlicesFromPods(service: Service, index: PodIndex): readonly EndpointSlice[] {
  if (service.type === "ExternalName" || service.selector === undefined) return [];
  // Pods whose named ports have different numbers, or of different families, cannot share a slice.
  const slices = new Map<
    string,
    { family: IpFamily; ports: readonly EndpointPort[]; endpoints: Endpoint[] }
  >();
  for (const pod of index.selected(service.meta.namespace, service.selector)) {
    if (pod.phase === "Succeeded" || pod.phase === "Failed") continue;
    const ports = service.ports.flatMap((port) => endpointPort(port, pod) ?? []);
    for (const { family, address } of addressesFor(service, pod)) {
      const key = JSON.stringify([family, ports]);
      const slice = slices.get(key) ?? { family, ports, endpoints: [] };
      slice.endpoints.push(endpointOf(service, pod, address, index.zoneOf(pod)));
      slices.set(key, slice);
    }
  }
  return [...slices.values()].map(({ family, ports, endpoints }, number) => ({
    kind: "EndpointSlice",
    source: "Pods",
    meta: {
      namespace: service.meta.namespace,
      name: `${service.meta.name}-pods-${number}-${family.toLowerCase()}`,
      labels: {},
      annotations: {},
    },
    serviceName: service.meta.name,
    addressType: family,
    ports,
    endpoints,
  }));
}

function endpointPort(port: Service["ports"][number], pod: Pod): EndpointPort | undefined {
  const { name, protocol, appProtocol, targetPort } = port;
  const number =
    typeof targetPort === "number"
      ? targetPort
      : pod.containerPorts.find(
          (candidate) => candidate.name === targetPort && candidate.protocol === protocol,
        )?.containerPort;
  if (number === undefined) return undefined;
  return { name, protocol, port: number, ...(appProtocol === undefined ? {} : { appProtocol }) };
}

function addressesFor(
  service: Service,
  pod: Pod,
): readonly { readonly family: IpFamily; readonly address: string }[] {
  const ofPod = pod.podIPs.flatMap((text) => parseIpAddress(text) ?? []);
  const ofService = service.clusterIPs.flatMap((text) => parseIpAddress(text)?.family ?? []);
  const families = ofService.length > 0 ? ofService : ofPod.slice(0, 1).map((address) => address.family);
  return [...new Set(families)].flatMap((family) => {
    const address = ofPod.find((candidate) => candidate.family === family);
    return address === undefined ? [] : [{ family, address: address.text }];
  });
}

function endpointOf(service: Service, pod: Pod, address: string, zone: string | undefined): Endpoint {
  const name: ObjectName = `${pod.meta.namespace}/${pod.meta.name}`;
  return {
    addresses: [address],
    ready: service.publishNotReadyAddresses || (pod.ready && !pod.terminating),
    serving: pod.ready,
    terminating: pod.terminating,
    ...(pod.nodeName === undefined ? {} : { nodeName: pod.nodeName }),
    ...(zone === undefined ? {} : { zone }),
    hintsForZones: [],
    hintsForNodes: [],
    pod: name,
  };
}
