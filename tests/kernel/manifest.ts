/**
 * The Services of the tests as Kubernetes objects, in a file that `fairlead … -f` reads.
 *
 * In: `TestService`s. Out: Services, EndpointSlices (one for each family) or Endpoints, both Nodes, two ConfigMaps.
 */
import { writeFile } from "node:fs/promises";
import { type DualAddress, FAMILIES, type Family, HOSTS, type HostName } from "./addresses.ts";
import { clusterIpOf, externalIpOf, portsOf, proxyVipOf, vipOf } from "./destinations.ts";
import { TCP_SERVICES, type TestService, UDP_SERVICES } from "./services.ts";

export type KubernetesObject = Readonly<Record<string, unknown>>;

export const NODE = "node-a";

const API_FAMILY = { ipv4: "IPv4", ipv6: "IPv6" } as const satisfies Record<Family, string>;

export async function writeManifest(path: string, services: readonly TestService[]): Promise<void> {
  await writeObjects(path, [...NODES, ...CONFIG_MAPS, ...services.flatMap(objectsOf)]);
}

export async function writeObjects(path: string, items: readonly KubernetesObject[]): Promise<void> {
  await writeFile(path, JSON.stringify({ apiVersion: "v1", kind: "List", items }, undefined, 1));
}

export const NODES: readonly KubernetesObject[] = [
  nodeObject({
    name: "node-a",
    zone: "zone-a",
    addresses: [HOSTS["node-a"], HOSTS["node-a-second"]],
    podCIDRs: ["10.180.0.0/24", "fd00:10:180::/64"],
  }),
  nodeObject({
    name: "node-b",
    zone: "zone-b",
    addresses: [HOSTS["node-b"]],
    podCIDRs: ["10.180.1.0/24", "fd00:10:180:1::/64"],
  }),
];

const CONFIG_MAPS: readonly KubernetesObject[] = [
  {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "tcp-services", namespace: "default" },
    data: TCP_SERVICES,
  },
  {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "udp-services", namespace: "default" },
    data: UDP_SERVICES,
  },
];

export interface TestNode {
  readonly name: string;
  readonly zone: string;
  /** The primary one first. */
  readonly addresses: readonly DualAddress[];
  readonly podCIDRs: readonly string[];
}

export function nodeObject({ name, zone, addresses, podCIDRs }: TestNode): KubernetesObject {
  const internal = addresses.flatMap((address) => FAMILIES.map((family) => address[family]));
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name } },
    spec: { podCIDR: podCIDRs[0], podCIDRs },
    status: {
      addresses: [
        ...internal.map((address) => ({ type: "InternalIP", address })),
        { type: "Hostname", address: name },
      ],
    },
  };
}

export function objectsOf(service: TestService): readonly KubernetesObject[] {
  return [serviceObject(service), ...endpointObjects(service)];
}

function familiesOf({ families = "both" }: TestService): readonly Family[] {
  return FAMILIES.filter((family) => families === "both" || families === API_FAMILY[family]);
}

function serviceObject(service: TestService): KubernetesObject {
  const { name, type = "ClusterIP", labels, annotations, created, spec, sloppy = false } = service;
  const write = (address: DualAddress, family: Family) =>
    sloppy ? carelessly(address[family]) : address[family];
  const families = familiesOf(service);
  const clusterIPs = service.headless
    ? ["None"]
    : families.map((family) => write(clusterIpOf(service), family));
  // Both families, always: the wrong one for a single-stack Service must not be programmed.
  const both = (address: DualAddress) => FAMILIES.map((family) => write(address, family));
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      name,
      namespace: "default",
      ...(labels && { labels }),
      ...(annotations && { annotations }),
      ...(created && { creationTimestamp: created }),
    },
    spec: {
      type,
      clusterIP: clusterIPs[0],
      clusterIPs,
      ipFamilies: families.map((family) => API_FAMILY[family]),
      ipFamilyPolicy: families.length === 2 ? "RequireDualStack" : "SingleStack",
      ports: portsOf(service).map(({ name, protocol, port, targetPort, nodePort }) => ({
        name,
        protocol: protocol.toUpperCase(),
        port,
        targetPort,
        ...(nodePort !== undefined && { nodePort }),
      })),
      ...(service.external && { externalIPs: both(externalIpOf(service)) }),
      ...(service.sourceRanges && { loadBalancerSourceRanges: service.sourceRanges }),
      ...spec,
    },
    ...(service.ingress && { status: { loadBalancer: { ingress: ingressOf(service, both) } } }),
  };
}

function ingressOf(
  service: TestService,
  both: (address: DualAddress) => readonly string[],
): readonly KubernetesObject[] {
  const vips = both(vipOf(service)).map((ip) => ({ ip, ipMode: "VIP" }));
  const proxied = (address: DualAddress) => both(address).map((ip) => ({ ip, ipMode: "Proxy" }));
  switch (service.ingress) {
    case "vip":
      // An absent mode means VIP.
      return service.sloppy ? vips.map(({ ip }) => ({ ip })) : vips;
    case "proxy":
      return proxied(vipOf(service));
    case "vip and proxy":
      return [...vips, ...proxied(proxyVipOf(service))];
    case "hostname":
    case undefined:
      return [{ hostname: "balancer.example" }];
    default:
      return service.ingress satisfies never;
  }
}

function endpointObjects(service: TestService): readonly KubernetesObject[] {
  const told = service.told ?? "slices";
  switch (told) {
    case "slices":
      return familiesOf(service).map((family) => slice(service, family, "1"));
    case "Endpoints":
      return [oldEndpoints(service)];
    case "overlapping slices":
      // The same port name stands for two numbers, and one endpoint is told twice.
      return familiesOf(service).flatMap((family) => [
        slice({ ...service, endpoints: ["a1"] }, family, "1"),
        slice({ ...service, endpoints: ["a1", "b1"] }, family, "2", 8443),
        slice({ ...service, endpoints: ["a1"] }, family, "3"),
      ]);
    case "slices and FQDN":
      return [
        ...familiesOf(service).map((family) => slice(service, family, "1")),
        {
          ...slice(service, "ipv4", "names"),
          addressType: "FQDN",
          endpoints: [{ addresses: ["pod.example"], conditions: { ready: true } }],
        },
      ];
    default:
      return told satisfies never;
  }
}

function slice(service: TestService, family: Family, suffix: string, targetPort?: number): KubernetesObject {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${service.name}-${family}-${suffix}`,
      namespace: "default",
      labels: { "kubernetes.io/service-name": service.name },
    },
    addressType: API_FAMILY[family],
    ports: portsOf(service).map((port) => ({
      name: port.name,
      protocol: port.protocol.toUpperCase(),
      port: targetPort ?? port.targetPort,
    })),
    endpoints: service.endpoints.map((text) => endpoint(text, family, service.sloppy ?? false)),
  };
}

/** The host behind an endpoint's name. */
export function endpointHost(name: string): HostName {
  if (name === "host") return "node-a";
  if (name === "hostb") return "node-b";
  return name as HostName;
}

function endpoint(text: string, family: Family, sloppy: boolean): KubernetesObject {
  const [name = "", ...words] = text.split(" ");
  const host = endpointHost(name);
  const address = HOSTS[host][family];
  const hints = (key: string) =>
    words
      .find((word) => word.startsWith(`${key}=`))
      ?.slice(key.length + 1)
      .split(",")
      .map((hint) => ({ name: hint }));
  const forZones = hints("zones");
  const forNodes = hints("nodes");
  const isOnB = host === "node-b" || host.startsWith("b");
  return {
    addresses: [sloppy ? carelessly(address) : address],
    conditions: conditions(words),
    nodeName: isOnB ? "node-b" : "node-a",
    zone: isOnB ? "zone-b" : "zone-a",
    ...((forZones ?? forNodes) && {
      hints: { ...(forZones && { forZones }), ...(forNodes && { forNodes }) },
    }),
  };
}

function conditions(words: readonly string[]): KubernetesObject {
  if (words.includes("unready")) return { ready: false, serving: false, terminating: false };
  if (words.includes("starting")) return { ready: false, serving: true, terminating: false };
  if (words.includes("terminating")) return { ready: false, serving: true, terminating: true };
  if (words.includes("dead")) return { ready: false, serving: false, terminating: true };
  return { ready: true, serving: true, terminating: false };
}

function oldEndpoints(service: TestService): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "Endpoints",
    metadata: { name: service.name, namespace: "default" },
    subsets: familiesOf(service).map((family) => ({
      addresses: service.endpoints.map((text) => {
        const host = endpointHost(text);
        return { ip: HOSTS[host][family], nodeName: host.startsWith("b") ? "node-b" : "node-a" };
      }),
      ports: portsOf(service).map(({ name, protocol, targetPort }) => ({
        name,
        protocol: protocol.toUpperCase(),
        port: targetPort,
      })),
    })),
  };
}

/** `172.30.0.41` → `172.30.0.041`; `fd00:10:180::b` → `FD00:10:180::B`. */
function carelessly(address: string): string {
  return address.includes(":")
    ? address.toUpperCase()
    : address.replace(/(\d+)$/, (last) => last.padStart(3, "0"));
}
