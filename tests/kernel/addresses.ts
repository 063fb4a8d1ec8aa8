/**
 * The address plan of the kernel tests: every host has one name and one address in each family.
 *
 * Ranges: pods 10.180.0.0/16, services 172.30.0.0/16, nodes 192.168.0.0/24, outside 203.0.113.0/24 (RFC 5737), external
 * and load-balancer addresses 198.51.100.0/24 (RFC 5737); in IPv6 the same figures under fd00::/16, as far as they go.
 */

export const FAMILIES = ["ipv4", "ipv6"] as const;
export type Family = (typeof FAMILIES)[number];
export type Protocol = "tcp" | "udp" | "sctp" | "icmp";

/** One address in each family. */
export type DualAddress = Readonly<Record<Family, string>>;

export const HOSTS = {
  /** The node under test: its primary address, one on a second interface, and the one that its pods route through. */
  "node-a": { ipv4: "192.168.0.2", ipv6: "fd00:192:168::2" },
  "node-a-second": { ipv4: "192.168.100.2", ipv6: "fd00:192:168:100::2" },
  "node-a-pods": { ipv4: "10.180.0.1", ipv6: "fd00:10:180::1" },
  loopback: { ipv4: "127.0.0.1", ipv6: "::1" },
  /** Pods of node-a: two endpoints and one that only calls. */
  a1: { ipv4: "10.180.0.11", ipv6: "fd00:10:180::11" },
  a2: { ipv4: "10.180.0.12", ipv6: "fd00:10:180::12" },
  pod: { ipv4: "10.180.0.13", ipv6: "fd00:10:180::13" },
  /** A node that runs no agent, and its pods. */
  "node-b": { ipv4: "192.168.0.3", ipv6: "fd00:192:168::3" },
  "node-b-pods": { ipv4: "10.180.1.1", ipv6: "fd00:10:180:1::1" },
  b1: { ipv4: "10.180.1.11", ipv6: "fd00:10:180:1::11" },
  b2: { ipv4: "10.180.1.12", ipv6: "fd00:10:180:1::12" },
  /** Callers on the wire: two outside the cluster, a pod of a third node, and that node. */
  client: { ipv4: "203.0.113.10", ipv6: "fd00:203:0:113::10" },
  far: { ipv4: "203.0.113.200", ipv6: "fd00:203:0:113::200" },
  peer: { ipv4: "10.180.2.11", ipv6: "fd00:10:180:2::11" },
  "node-c": { ipv4: "192.168.0.4", ipv6: "fd00:192:168::4" },
  /** The default gateway, which answers for every address that nobody else has. */
  world: { ipv4: "192.168.0.1", ipv6: "fd00:192:168::1" },
} as const satisfies Record<string, DualAddress>;

export type HostName = keyof typeof HOSTS;

/** The namespaces of a lab; hosts are addresses in them. */
export type NamespaceName =
  | "lan"
  | "node-a"
  | "a1"
  | "a2"
  | "pod"
  | "node-b"
  | "b1"
  | "b2"
  | "client"
  | "world";

const NAMESPACE_OF: Readonly<Record<HostName, NamespaceName>> = {
  "node-a": "node-a",
  "node-a-second": "node-a",
  "node-a-pods": "node-a",
  loopback: "node-a",
  a1: "a1",
  a2: "a2",
  pod: "pod",
  "node-b": "node-b",
  "node-b-pods": "node-b",
  b1: "b1",
  b2: "b2",
  client: "client",
  far: "client",
  peer: "client",
  "node-c": "client",
  world: "world",
};

export function namespaceOf(host: HostName): NamespaceName {
  return NAMESPACE_OF[host];
}

export function isHostName(word: string): word is HostName {
  return Object.hasOwn(HOSTS, word);
}

export const CLUSTER_CIDRS: DualAddress = { ipv4: "10.180.0.0/16", ipv6: "fd00:10:180::/48" };

/** The address with this number in the range of ClusterIPs. */
export function clusterIp(number: number): DualAddress {
  return { ipv4: `172.30.0.${number}`, ipv6: `fd00:172:30::${number.toString(16)}` };
}

/** The address with this number in the range of external and load-balancer addresses. */
export function publicIp(number: number): DualAddress {
  return { ipv4: `198.51.100.${number}`, ipv6: `fd00:198:51:100::${number.toString(16)}` };
}

/** `10.0.0.1:80`, `[fd00::1]:80`. */
export function hostPort(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
