/**
 * The Services that the vectors are sent to, one for each behaviour, each under the name of what it shows.
 *
 * Addresses and node ports follow from a Service's place in the list (`destinations.ts`), so the tables name Services only.
 */

import type { HostName } from "./addresses.ts";

/** `NAME PROTOCOL PORT TARGET`, for example `http tcp 80 8080`. */
export type PortText = `${string} ${"tcp" | "udp" | "sctp"} ${number} ${number}`;

/**
 * An endpoint's host, its state and its hints, for example `a1 terminating zones=zone-a nodes=node-a`. States:
 * ready (unnamed), `unready` (neither ready nor serving), `starting` (serving but not ready), `terminating` (still serving), `dead`
 * (terminating and not serving). `host` is node-a itself, `hostb` node-b.
 */
export type EndpointText = string;

export interface TestService {
  readonly name: string;
  readonly type?: "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName";
  readonly ports: readonly PortText[];
  readonly endpoints: readonly EndpointText[];
  /** Gives the Service an external IP of its own, or shares that of another Service, or has a host's address. */
  readonly external?: true | { readonly sharedWith: string } | { readonly at: HostName };
  /** What the load balancer's state says: an address of its own, in one of the modes, or only a hostname. */
  readonly ingress?: "vip" | "proxy" | "hostname" | "vip and proxy";
  /** For a load balancer; written as given, sloppy or not. */
  readonly sourceRanges?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly created?: string;
  /** Fields of the spec as they are. */
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly families?: "both" | "IPv4" | "IPv6";
  /** Writes addresses as careless people do. */
  readonly sloppy?: boolean;
  /** How the endpoints are told: slices, the old Endpoints, or slices of one's own making (`manifest.ts`). */
  readonly told?: "slices" | "Endpoints" | "overlapping slices" | "slices and FQDN";
  /** Without a ClusterIP. */
  readonly headless?: boolean;
  /** Shares the ClusterIP of another Service. */
  readonly clusterIpOf?: string;
}

const HTTP = "http tcp 80 8080";
const HTTPS = "https tcp 443 8443";
const ALL: readonly PortText[] = [HTTP, "dns udp 53 5353", "assoc sctp 132 9000"];
const LOCAL = { externalTrafficPolicy: "Local" } as const;
const INTERNAL_LOCAL = { internalTrafficPolicy: "Local" } as const;
const CLIENT_RANGES = [" 203.0.113.0/25 ", "fd00:203:0:113::/121"] as const;
const NODE_RANGES = ["192.168.0.2/32", "fd00:192:168::2/128"] as const;
const POD_RANGES = ["10.180.0.0/16", "fd00:10:180::/48"] as const;

export const SERVICES: readonly TestService[] = [
  { name: "web", ports: ALL, endpoints: ["a1", "a2", "b1"] },
  { name: "single", ports: [HTTP], endpoints: ["a1"] },
  { name: "multi", ports: [HTTP, HTTPS], endpoints: ["a1", "b1"] },
  { name: "empty", ports: ALL, endpoints: [] },

  // Node ports, external IPs and load balancers, by external policy and by where the endpoints are.
  { name: "np", type: "NodePort", ports: ALL, endpoints: ["a1", "a2", "b1"] },
  { name: "np-local", type: "NodePort", ports: ALL, endpoints: ["a1", "b1", "b2"], spec: LOCAL },
  { name: "np-local-remote", type: "NodePort", ports: ALL, endpoints: ["b1", "b2"], spec: LOCAL },
  { name: "np-empty", type: "NodePort", ports: ALL, endpoints: [] },
  { name: "np-local-empty", type: "NodePort", ports: [HTTP], endpoints: [], spec: LOCAL },
  { name: "lb", type: "LoadBalancer", ports: ALL, endpoints: ["a1", "b1"], ingress: "vip", external: true },
  {
    name: "lb-local",
    type: "LoadBalancer",
    ports: ALL,
    endpoints: ["a1", "b1"],
    ingress: "vip",
    external: true,
    spec: { ...LOCAL, healthCheckNodePort: 31_999 },
  },
  {
    name: "lb-local-remote",
    type: "LoadBalancer",
    ports: ALL,
    endpoints: ["b1"],
    ingress: "vip",
    external: true,
    spec: { ...LOCAL, healthCheckNodePort: 31_998 },
  },
  { name: "lb-empty", type: "LoadBalancer", ports: ALL, endpoints: [], ingress: "vip", external: true },
  { name: "lb-proxy", type: "LoadBalancer", ports: [HTTP], endpoints: ["a1"], ingress: "proxy" },
  { name: "lb-both-modes", type: "LoadBalancer", ports: [HTTP], endpoints: ["a1"], ingress: "vip and proxy" },
  { name: "lb-hostname", type: "LoadBalancer", ports: [HTTP], endpoints: ["a1"], ingress: "hostname" },
  {
    name: "lb-no-node-port",
    type: "LoadBalancer",
    ports: [HTTP],
    endpoints: ["a1"],
    ingress: "vip",
    spec: { allocateLoadBalancerNodePorts: false },
  },
  { name: "ext", ports: ALL, endpoints: ["a1", "b1"], external: true },
  { name: "ext-local", ports: ALL, endpoints: ["a1", "b1"], external: true, spec: LOCAL },
  { name: "ext-local-remote", ports: [HTTP], endpoints: ["b1"], external: true, spec: LOCAL },
  { name: "ext-empty", ports: ALL, endpoints: [], external: true },

  // Source ranges.
  {
    name: "ranges",
    type: "LoadBalancer",
    ports: ALL,
    endpoints: ["a1", "b1"],
    ingress: "vip",
    external: true,
    sourceRanges: [...CLIENT_RANGES, ...NODE_RANGES],
  },
  {
    name: "ranges-pods",
    type: "LoadBalancer",
    ports: [HTTP],
    endpoints: ["a1", "b1"],
    ingress: "vip",
    sourceRanges: POD_RANGES,
  },
  {
    name: "ranges-local",
    type: "LoadBalancer",
    ports: ALL,
    endpoints: ["a1", "b1"],
    ingress: "vip",
    sourceRanges: CLIENT_RANGES,
    spec: LOCAL,
  },
  {
    name: "ranges-local-remote",
    type: "LoadBalancer",
    ports: [HTTP],
    endpoints: ["b1"],
    ingress: "vip",
    sourceRanges: [...CLIENT_RANGES, ...NODE_RANGES],
    spec: LOCAL,
  },
  {
    name: "ranges-empty",
    type: "LoadBalancer",
    ports: ALL,
    endpoints: [],
    ingress: "vip",
    sourceRanges: CLIENT_RANGES,
  },
  {
    name: "ranges-foreign",
    type: "LoadBalancer",
    ports: [HTTP],
    endpoints: ["a1"],
    ingress: "vip",
    sourceRanges: ["198.18.0.0/15", "fd00:198:18::/48"],
  },

  // Internal policy.
  { name: "int-local", ports: ALL, endpoints: ["a1", "b1"], spec: INTERNAL_LOCAL },
  { name: "int-local-remote", ports: ALL, endpoints: ["b1"], spec: INTERNAL_LOCAL },
  { name: "int-local-empty", ports: [HTTP], endpoints: [], spec: INTERNAL_LOCAL },
  { name: "int-local-np", type: "NodePort", ports: ALL, endpoints: ["b1"], spec: INTERNAL_LOCAL },
  {
    name: "both-local",
    type: "NodePort",
    ports: [HTTP],
    endpoints: ["a1", "b1"],
    spec: { ...LOCAL, ...INTERNAL_LOCAL },
  },
  {
    name: "both-local-remote",
    type: "NodePort",
    ports: [HTTP],
    endpoints: ["b1"],
    spec: { ...LOCAL, ...INTERNAL_LOCAL },
  },

  // States of endpoints.
  { name: "unready", ports: [HTTP], endpoints: ["a1 unready", "b1 unready"] },
  { name: "some-unready", ports: [HTTP], endpoints: ["a1 unready", "a2", "b1"] },
  { name: "starting", ports: [HTTP], endpoints: ["a1 starting"] },
  { name: "terminating", type: "NodePort", ports: ALL, endpoints: ["a1 terminating", "b1 terminating"] },
  { name: "terminating-beside-ready", ports: [HTTP], endpoints: ["a1 terminating", "b1"] },
  { name: "dead", ports: [HTTP], endpoints: ["a1 dead", "b1 dead"] },
  { name: "dead-beside-terminating", ports: [HTTP], endpoints: ["a1 dead", "b1 terminating"] },
  {
    name: "local-terminating",
    type: "NodePort",
    ports: [HTTP],
    endpoints: ["a1 terminating", "b1"],
    spec: LOCAL,
  },
  {
    name: "local-ready-beside-terminating",
    type: "NodePort",
    ports: [HTTP],
    endpoints: ["a1", "a2 terminating", "b1"],
    spec: LOCAL,
  },
  { name: "local-dead", type: "NodePort", ports: [HTTP], endpoints: ["a1 dead", "b1"], spec: LOCAL },
  { name: "int-local-terminating", ports: [HTTP], endpoints: ["a1 terminating", "b1"], spec: INTERNAL_LOCAL },

  // Hints; node-a is in zone-a.
  { name: "zones", type: "NodePort", ports: ALL, endpoints: ["a1 zones=zone-a", "b1 zones=zone-b"] },
  { name: "zones-remote", ports: [HTTP], endpoints: ["a1 zones=zone-b", "b1 zones=zone-a,zone-c"] },
  { name: "zones-one-unhinted", ports: [HTTP], endpoints: ["a1 zones=zone-a", "b1 zones=zone-b", "b2"] },
  { name: "zones-none-here", ports: [HTTP], endpoints: ["a1 zones=zone-b", "b1 zones=zone-c"] },
  {
    name: "zones-unready-unhinted",
    ports: [HTTP],
    endpoints: ["a1 zones=zone-a", "b1 zones=zone-b", "a2 unready"],
  },
  {
    name: "zones-only-terminating",
    ports: [HTTP],
    endpoints: ["a1 zones=zone-b terminating", "b1 zones=zone-a terminating"],
  },
  { name: "nodes", ports: [HTTP], endpoints: ["a1 nodes=node-a", "a2 nodes=node-b", "b1 nodes=node-b"] },
  { name: "nodes-one-unhinted", ports: [HTTP], endpoints: ["a1 nodes=node-a", "b1"] },
  {
    name: "nodes-before-zones",
    ports: [HTTP],
    endpoints: ["a1 nodes=node-a zones=zone-a", "b1 nodes=node-b zones=zone-a"],
  },
  {
    name: "nodes-none-here",
    ports: [HTTP],
    endpoints: ["b1 nodes=node-b zones=zone-a", "b2 nodes=node-b zones=zone-b"],
  },
  {
    name: "zones-and-local",
    type: "NodePort",
    ports: [HTTP],
    endpoints: ["a1 zones=zone-b", "a2 zones=zone-a", "b1 zones=zone-b"],
    spec: LOCAL,
  },

  // Hosts as endpoints, and nodes that reach themselves.
  { name: "host", type: "NodePort", ports: ["api tcp 6443 7070"], endpoints: ["host"] },
  { name: "host-remote", type: "NodePort", ports: ["api tcp 6443 7070"], endpoints: ["hostb"] },

  // What is not ours to program.
  { name: "headless", ports: [HTTP], endpoints: ["a1"], headless: true, external: true },
  {
    name: "external-name",
    type: "ExternalName",
    ports: [HTTP],
    endpoints: ["a1"],
    spec: { externalName: "elsewhere.example" },
  },
  {
    name: "foreign-proxy",
    type: "NodePort",
    ports: [HTTP],
    endpoints: ["a1"],
    labels: { "service.kubernetes.io/service-proxy-name": "another" },
  },
  {
    name: "headless-label",
    ports: [HTTP],
    endpoints: ["a1"],
    labels: { "service.kubernetes.io/headless": "" },
  },

  // How objects are written.
  {
    name: "sloppy",
    type: "LoadBalancer",
    ports: [HTTP],
    endpoints: ["a1", "b1"],
    ingress: "vip",
    external: true,
    sloppy: true,
    sourceRanges: ["203.0.113.000/025", "FD00:0203:0:0113::/121"],
  },
  { name: "overlapping", ports: [HTTP], endpoints: ["a1", "b1"], told: "overlapping slices" },
  { name: "with-fqdn-slice", ports: [HTTP], endpoints: ["a1"], told: "slices and FQDN" },
  { name: "endpoints-object", ports: [HTTP], endpoints: ["a1", "b1"], told: "Endpoints", families: "IPv4" },
  {
    name: "only-v4",
    type: "NodePort",
    ports: [HTTP],
    endpoints: ["a1", "b1"],
    families: "IPv4",
    external: true,
  },
  {
    name: "only-v6",
    type: "NodePort",
    ports: [HTTP],
    endpoints: ["a1", "b1"],
    families: "IPv6",
    external: true,
  },
  {
    name: "same-number",
    ports: ["tcp tcp 53 8080", "udp udp 53 5353", "sctp sctp 53 9000"],
    endpoints: ["a1", "b1"],
  },

  // Several Services and one address.
  { name: "shares", ports: ["alt tcp 81 8080"], endpoints: ["b1"], external: { sharedWith: "ext" } },
  {
    name: "older",
    ports: [HTTP],
    endpoints: ["a1"],
    external: true,
    created: "2020-01-01T00:00:00Z",
  },
  {
    name: "an-earlier-name-but-younger",
    ports: [HTTP],
    endpoints: ["b1"],
    external: { sharedWith: "older" },
    created: "2024-01-01T00:00:00Z",
  },
  {
    name: "younger-same-cluster-ip",
    ports: [HTTP],
    endpoints: ["b2"],
    clusterIpOf: "older",
    created: "2025-01-01T00:00:00Z",
  },

  {
    name: "sticky",
    type: "NodePort",
    ports: ALL,
    endpoints: ["a1", "a2", "b1", "b2"],
    spec: { sessionAffinity: "ClientIP", sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } } },
  },

  // An external IP that the node itself has.
  { name: "on-the-node", ports: [HTTP], endpoints: ["a1", "b1"], external: { at: "node-a-second" } },
];

/** Ports of the nodes that ConfigMaps open: `default/tcp-services` and `default/udp-services`. */
export const TCP_SERVICES: Readonly<Record<string, string>> = {
  "9100": "default/web:80",
  "9101": "default/multi:https",
  "9102": "default/empty:80",
  "9103": "default/np-local-remote:80",
  "9104": "default/nobody:80",
  "9105": "default/int-local-remote:http",
};
export const UDP_SERVICES: Readonly<Record<string, string>> = {
  "9153": "default/web:53",
  "9154": "default/empty:dns",
};
