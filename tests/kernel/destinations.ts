/**
 * Where a vector goes: names of Services, addresses and ports turned into figures.
 *
 * In: `web cluster http`, `np node tcp/31000`. Out: addresses of each family, protocol and port.
 */
import {
  clusterIp,
  type DualAddress,
  type Family,
  HOSTS,
  type HostName,
  type Protocol,
  publicIp,
} from "./addresses.ts";
import { SERVICES, type TestService } from "./services.ts";

export interface ServicePort {
  readonly name: string;
  readonly protocol: Exclude<Protocol, "icmp">;
  readonly port: number;
  readonly targetPort: number;
  readonly nodePort?: number;
}

export interface Destination {
  readonly service?: TestService;
  readonly address: DualAddress;
  readonly protocol: Protocol;
  readonly port: number;
  /** Where pods listen for this port. */
  readonly targetPort: number;
}

const FIRST_NODE_PORT = 30_000;
const FIRST_VIP = 120;
/** An address among the ClusterIPs that no Service has. */
const UNALLOCATED = 250;

const PLACES = {
  node: "node-a",
  second: "node-a-second",
  pods: "node-a-pods",
  loopback: "loopback",
  "other-node": "node-b",
} as const satisfies Record<string, HostName>;

const serviceIndex = new Map(SERVICES.map((service, index) => [service.name, index]));

export function serviceNamed(name: string): TestService {
  const service = SERVICES[indexOf(name)];
  if (service === undefined) throw new Error(`there is no Service ${name}`);
  return service;
}

function indexOf(name: string): number {
  const index = serviceIndex.get(name);
  if (index === undefined) throw new Error(`there is no Service ${name}`);
  return index;
}

export function clusterIpOf(service: TestService): DualAddress {
  return clusterIp(10 + indexOf(service.clusterIpOf ?? service.name));
}

export function externalIpOf(service: TestService): DualAddress {
  const { external } = service;
  if (typeof external === "object" && "at" in external) return HOSTS[external.at];
  return publicIp(10 + indexOf(typeof external === "object" ? external.sharedWith : service.name));
}

export function vipOf(service: TestService): DualAddress {
  return publicIp(FIRST_VIP + indexOf(service.name));
}

/** The second address of a load balancer that has two. */
export function proxyVipOf(service: TestService): DualAddress {
  return {
    ipv4: vipOf(service).ipv4.replace("198.51.100.", "198.18.100."),
    ipv6: vipOf(service).ipv6.replace("fd00:198:51:", "fd00:198:18:"),
  };
}

export function portsOf(service: TestService): readonly ServicePort[] {
  const hasNodePorts =
    (service.type === "NodePort" || service.type === "LoadBalancer") &&
    service.spec?.allocateLoadBalancerNodePorts !== false;
  return service.ports.map((text, index) => {
    const [name = "", protocol = "", port = "", targetPort = ""] = text.split(" ");
    return {
      name,
      protocol: protocol as ServicePort["protocol"],
      port: Number(port),
      targetPort: Number(targetPort),
      ...(hasNodePorts && { nodePort: FIRST_NODE_PORT + 10 * indexOf(service.name) + index }),
    };
  });
}

/** `SERVICE PLACE PORT`, where PORT is a port's name, `PROTOCOL/NUMBER` or `icmp`; or `HOST direct PROTOCOL/NUMBER`. */
export function readDestination(text: string): Destination {
  const [name = "", place = "", portText = ""] = text.trim().split(/\s+/);
  if (place === "direct") return { address: HOSTS[name as HostName], ...literalPort(portText) };
  if (name === "unallocated") return { address: clusterIp(UNALLOCATED), ...literalPort(portText) };
  const service = serviceNamed(name);
  const address = addressOf(service, place);
  const named = portsOf(service).find((port) => port.name === portText);
  if (named === undefined) return { service, address, ...literalPort(portText) };
  const { protocol, targetPort } = named;
  const isNode = Object.hasOwn(PLACES, place);
  // A Service without node ports is asked at the one that it would have had.
  const port = isNode ? (named.nodePort ?? FIRST_NODE_PORT + 10 * indexOf(name)) : named.port;
  return { service, address, protocol, port, targetPort };
}

function literalPort(text: string): Pick<Destination, "protocol" | "port" | "targetPort"> {
  if (text === "icmp") return { protocol: "icmp", port: 0, targetPort: 0 };
  const [protocol = "", port = ""] = text.split("/");
  if (!/^(tcp|udp|sctp)\/\d+$/.test(text)) throw new Error(`not a port: ${text}`);
  const targets = { tcp: 8080, udp: 5353, sctp: 9000 };
  return {
    protocol: protocol as Protocol,
    port: Number(port),
    targetPort: targets[protocol as keyof typeof targets],
  };
}

function addressOf(service: TestService, place: string): DualAddress {
  if (Object.hasOwn(PLACES, place)) return HOSTS[PLACES[place as keyof typeof PLACES]];
  switch (place) {
    case "cluster":
      return clusterIpOf(service);
    case "external":
      return externalIpOf(service);
    case "vip":
      return vipOf(service);
    case "proxy-vip":
      return proxyVipOf(service);
    default:
      throw new Error(`not a place: ${place}`);
  }
}

/** Whether node-a itself has the address, so that its own servers answer what is left untouched. */
export function isOnNodeA(address: string, family: Family): boolean {
  return (["node-a", "node-a-second", "node-a-pods", "loopback"] as const).some(
    (host) => HOSTS[host][family] === address,
  );
}
