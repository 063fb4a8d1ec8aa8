/**
 * The vectors: who sends what where, under which settings, and what must come of it.
 *
 * Written from the documented behaviour of Kubernetes' node proxies, never from what Fairlead does. The notation is
 * explained in `table.ts`, the Services in `services.ts`, the hosts in `addresses.ts`.
 */
import { CLUSTER_CIDRS } from "./addresses.ts";
import type { PodNetwork } from "./lab.ts";
import { type Differences, readTable, type Vector } from "./table.ts";

/** Where the backends differ, as kube-proxy's modes of the same names do, and why. */
export const KNOWN_DIFFERENCES = {
  "undefined-port": {
    why: "nftables knows all ClusterIPs and refuses the ports that no Service has, as IPVS does, whose addresses are the node's own; iptables knows ports only, so the packet leaves by the default route.",
    ipvs: "nftables",
  },
  "own-address": {
    why: "With IPVS the virtual addresses are the node's own: it answers ICMP there, and refuses the ports that no Service has at every kind of them.",
    ipvs: "iptables",
  },
  "default-node-addresses": {
    why: "Node ports are served on the node's primary address by nftables and on all of its addresses by iptables and IPVS, unless told otherwise.",
    ipvs: "iptables",
  },
  "firewall-first": {
    why: "nftables and IPVS drop what the source ranges forbid before they look for endpoints; iptables makes no firewall chain for a Service without endpoints, so everybody is refused.",
    ipvs: "nftables",
  },
  "service-range": {
    why: "nftables drops what is sent to addresses of the range of ClusterIPs that no Service has; kube-proxy's other modes know no such range.",
    ipvs: "iptables",
  },
  localhost: {
    why: "Node ports on 127.0.0.1 need route_localnet, which opens loopback; to the iptables mode alone every address means 127.0.0.1, too.",
    ipvs: "nftables",
  },
  "localhost-by-name": {
    why: "Where localhost is named, nftables serves 127.0.0.1 as iptables does; IPVS finds nothing there that comes from loopback.",
    ipvs: "nftables",
  },
} as const satisfies Differences;

export interface Scene {
  readonly name: string;
  /** Flags of `fairlead agent` and `fairlead nat trace`. */
  readonly flags: readonly string[];
  readonly vectors: readonly Vector[];
  /** Only where pods hang on their node so; absent: anywhere. */
  readonly podNetwork?: PodNetwork;
}

const CLUSTER_CIDR = ["--cluster-cidr", `${CLUSTER_CIDRS.ipv4},${CLUSTER_CIDRS.ipv6}`];
const CONFIG_MAPS = ["--tcp-services", "default/tcp-services", "--udp-services", "default/udp-services"];

const read = (table: string) => readTable(table, KNOWN_DIFFERENCES);

const CLUSTER_IPS = read(`
                              | pod      | peer     | node           | client
  web cluster http            | a1 a2 b1 | a1 a2 b1 | a1 a2 b1 +masq | a1 a2 b1 +masq
  web cluster dns             | a1 a2 b1 | a1 a2 b1 | a1 a2 b1 +masq | a1 a2 b1 +masq
  web cluster assoc           | a1 a2 b1 | a1 a2 b1 | a1 a2 b1 +masq | a1 a2 b1 +masq
  multi cluster http          | a1 b1    |          | a1 b1 +masq    |
  multi cluster https         | a1:8443 b1:8443 | | a1:8443 b1:8443 +masq | a1:8443 b1:8443 +masq
  same-number cluster tcp     | a1 b1    |          | a1 b1 +masq    | a1 b1 +masq
  same-number cluster udp     | a1 b1    |          | a1 b1 +masq    | a1 b1 +masq
  same-number cluster sctp    | a1 b1    |          | a1 b1 +masq    | a1 b1 +masq
  empty cluster http          | reject   | reject   | reject         | reject
  empty cluster dns           | reject   | reject   | reject         | reject
  empty cluster assoc         | reject   | reject   | reject         | reject
  sticky cluster http         | a1 a2 b1 b2 +sticky | | a1 a2 b1 b2 +masq +sticky | a1 a2 b1 b2 +masq +sticky
  sticky cluster dns          | a1 a2 b1 b2 +sticky | | a1 a2 b1 b2 +masq +sticky | a1 a2 b1 b2 +masq +sticky
  sticky cluster assoc        | a1 a2 b1 b2 +sticky | | a1 a2 b1 b2 +masq +sticky | a1 a2 b1 b2 +masq +sticky
`);

const HAIRPIN = read(`
                              | a1       | a2       | b1
  single cluster http         | a1       | a1       | a1
  web cluster http            | a1 a2 b1 | a1 a2 b1 |
  web cluster dns             | a1 a2 b1 | a1 a2 b1 |
  web cluster assoc           | a1 a2 b1 | a1 a2 b1 |
  lb vip http                 | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq
  np-local node http          | a1 b1 b2 | a1 b1 b2 |
  int-local cluster http      | a1       | a1       | a1
`);

const UNDEFINED = read(`
                              | pod      | peer     | node           | client
  web cluster tcp/81          | reject / untouched #undefined-port | reject / untouched #undefined-port | reject / untouched #undefined-port | reject / untouched #undefined-port
  web cluster udp/54          | reject / untouched #undefined-port | | reject / untouched #undefined-port | reject / untouched #undefined-port
  web cluster sctp/133        | reject / untouched #undefined-port | | reject / untouched #undefined-port | reject / untouched #undefined-port
  single cluster udp/80       | reject / untouched #undefined-port | | reject / untouched #undefined-port | reject / untouched #undefined-port
  single cluster sctp/80      | reject / untouched #undefined-port | | reject / untouched #undefined-port | reject / untouched #undefined-port
  empty cluster tcp/81        | reject / untouched #undefined-port | | reject / untouched #undefined-port | reject / untouched #undefined-port
  web cluster icmp            | reject / untouched #own-address | | reject / untouched #own-address | reject / untouched #own-address
  unallocated cluster tcp/80  | untouched | untouched | untouched | untouched
  unallocated cluster udp/53  | untouched |           | untouched | untouched
  lb vip tcp/81               | untouched / untouched / reject #own-address |           | untouched / untouched / reject #own-address | untouched / untouched / reject #own-address
  lb vip udp/80               | untouched / untouched / reject #own-address |           | untouched / untouched / reject #own-address | untouched / untouched / reject #own-address
  lb vip icmp                 | untouched |           | untouched | untouched
  ext external tcp/82         | untouched / untouched / reject #own-address |           | untouched / untouched / reject #own-address | untouched / untouched / reject #own-address
  np node tcp/29999           | untouched | untouched | untouched | untouched
  np node udp/29999           | untouched |           | untouched | untouched
  np node sctp/29999          | untouched |           |           | untouched
  np node icmp                | untouched |           | untouched | untouched
  a1 direct tcp/8080          | untouched | untouched | untouched | untouched
  b1 direct tcp/8080          | untouched | untouched | untouched | untouched
  a1 direct udp/5353          | untouched |           | untouched | untouched
  a1 direct sctp/9000         | untouched |           | untouched | untouched
`);

const NODE_PORTS = read(`
                              | pod            | peer           | node           | client
  np cluster http             | a1 a2 b1       |                | a1 a2 b1 +masq | a1 a2 b1 +masq
  np node http                | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  np node dns                 | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  np node assoc               | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  np second http              | untouched / a1 a2 b1 +masq #default-node-addresses | | untouched / a1 a2 b1 +masq #default-node-addresses | untouched / a1 a2 b1 +masq #default-node-addresses
  np second dns               | untouched / a1 a2 b1 +masq #default-node-addresses | | | untouched / a1 a2 b1 +masq #default-node-addresses
  np pods http                | untouched / a1 a2 b1 +masq #default-node-addresses | | | untouched / a1 a2 b1 +masq #default-node-addresses
  np-local cluster http       | a1 b1 b2       |                | a1 b1 b2 +masq | a1 b1 b2 +masq
  np-local node http          | a1 b1 b2       | a1 b1 b2       | a1 b1 b2 +masq | a1
  np-local node dns           | a1 b1 b2       | a1 b1 b2       | a1 b1 b2 +masq | a1
  np-local node assoc         | a1 b1 b2       | a1 b1 b2       | a1 b1 b2 +masq | a1
  np-local-remote cluster http | b1 b2         |                | b1 b2 +masq    | b1 b2 +masq
  np-local-remote node http   | b1 b2          | b1 b2          | b1 b2 +masq    | drop
  np-local-remote node dns    | b1 b2          | b1 b2          | b1 b2 +masq    | drop
  np-local-remote node assoc  | b1 b2          | b1 b2          | b1 b2 +masq    | drop
  np-empty cluster http       | reject         |                | reject         | reject
  np-empty node http          | reject         | reject         | reject         | reject
  np-empty node dns           | reject         | reject         | reject         | reject
  np-empty node assoc         | reject         | reject         | reject         | reject
  np-local-empty node http    | reject         | reject         | reject         | reject
`);

const LOAD_BALANCERS = read(`
                              | pod         | peer        | node        | client
  lb cluster http             | a1 b1       | a1 b1       | a1 b1 +masq | a1 b1 +masq
  lb vip http                 | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq
  lb vip dns                  | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq
  lb vip assoc                | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq
  lb external http            | a1 b1 +masq |             | a1 b1 +masq | a1 b1 +masq
  lb node http                | a1 b1 +masq |             | a1 b1 +masq | a1 b1 +masq
  lb-local cluster http       | a1 b1       |             | a1 b1 +masq | a1 b1 +masq
  lb-local vip http           | a1 b1       | a1 b1       | a1 b1 +masq | a1
  lb-local vip dns            | a1 b1       | a1 b1       | a1 b1 +masq | a1
  lb-local vip assoc          | a1 b1       | a1 b1       | a1 b1 +masq | a1
  lb-local external http      | a1 b1       |             | a1 b1 +masq | a1
  lb-local node http          | a1 b1       |             | a1 b1 +masq | a1
  lb-local-remote vip http    | b1          | b1          | b1 +masq    | drop
  lb-local-remote vip dns     | b1          |             | b1 +masq    | drop
  lb-local-remote vip assoc   | b1          |             | b1 +masq    | drop
  lb-local-remote external http | b1        |             | b1 +masq    | drop
  lb-local-remote node http   | b1          |             | b1 +masq    | drop
  lb-empty cluster http       | reject      |             | reject      | reject
  lb-empty vip http           | reject      | reject      | reject      | reject
  lb-empty vip dns            | reject      |             | reject      | reject
  lb-empty vip assoc          | reject      |             | reject      | reject
  lb-empty external dns       | reject      |             | reject      | reject
  lb-empty node http          | reject      |             | reject      | reject
  lb-proxy vip http           | untouched   | untouched   | untouched   | untouched
  lb-proxy cluster http       | a1          |             | a1 +masq    | a1 +masq
  lb-proxy node http          | a1 +masq    |             | a1 +masq    | a1 +masq
  lb-both-modes vip http      | a1 +masq    |             | a1 +masq    | a1 +masq
  lb-both-modes proxy-vip http | untouched  |             | untouched   | untouched
  lb-hostname vip http        | untouched   |             | untouched   | untouched
  lb-hostname node http       | a1 +masq    |             | a1 +masq    | a1 +masq
  lb-no-node-port vip http    | a1 +masq    |             | a1 +masq    | a1 +masq
  lb-no-node-port node http   | untouched   |             | untouched   | untouched
  ext cluster http            | a1 b1       |             | a1 b1 +masq | a1 b1 +masq
  ext external http           | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq
  ext external dns            | a1 b1 +masq |             | a1 b1 +masq | a1 b1 +masq
  ext external assoc          | a1 b1 +masq |             | a1 b1 +masq | a1 b1 +masq
  ext-local external http     | a1 b1       | a1 b1       | a1 b1 +masq | a1
  ext-local external dns      | a1 b1       |             | a1 b1 +masq | a1
  ext-local external assoc    | a1 b1       |             | a1 b1 +masq | a1
  ext-local-remote external http | b1       | b1          | b1 +masq    | drop
  ext-empty external http     | reject      | reject      | reject      | reject
  ext-empty external dns      | reject      |             | reject      | reject
  ext-empty external assoc    | reject      |             | reject      | reject
`);

const SOURCE_RANGES = read(`
                              | pod         | node        | client      | far
  ranges vip http             | drop        | a1 b1 +masq | a1 b1 +masq | drop
  ranges vip dns              | drop        | a1 b1 +masq | a1 b1 +masq | drop
  ranges vip assoc            | drop        | a1 b1 +masq | a1 b1 +masq | drop
  ranges external http        | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq
  ranges node http            | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq
  ranges cluster http         | a1 b1       | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq
  ranges-pods vip http        | a1 b1 +masq | drop        | drop        | drop
  ranges-local vip http       | drop        | drop        | a1          | drop
  ranges-local vip dns        | drop        | drop        | a1          | drop
  ranges-local vip assoc      | drop        | drop        | a1          | drop
  ranges-local node http      | a1 b1       | a1 b1 +masq | a1          | a1
  ranges-local-remote vip http | drop       | b1 +masq    | drop        | drop
  ranges-empty vip http       | drop / reject #firewall-first | drop / reject #firewall-first | reject | drop / reject #firewall-first
  ranges-empty vip dns        | drop / reject #firewall-first | drop / reject #firewall-first | reject | drop / reject #firewall-first
  ranges-empty vip assoc      | drop / reject #firewall-first | drop / reject #firewall-first | reject | drop / reject #firewall-first
  ranges-empty node http      | reject      | reject      | reject      | reject
  ranges-foreign vip http     | drop        | drop        | drop        | drop
  sloppy vip http             | drop        | drop        | a1 b1 +masq | drop
  sloppy cluster http         | a1 b1       | a1 b1 +masq | a1 b1 +masq |
  sloppy external http        | a1 b1 +masq |             | a1 b1 +masq | a1 b1 +masq
`);

const POLICIES = read(`
                              | pod         | peer        | node        | client
  int-local cluster http      | a1          | a1          | a1 +masq    | a1 +masq
  int-local cluster dns       | a1          | a1          | a1 +masq    | a1 +masq
  int-local cluster assoc     | a1          | a1          | a1 +masq    | a1 +masq
  int-local-remote cluster http | drop      | drop        | drop        | drop
  int-local-remote cluster dns | drop       |             | drop        | drop
  int-local-remote cluster assoc | drop     |             | drop        | drop
  int-local-empty cluster http | reject     | reject      | reject      | reject
  int-local-np cluster http   | drop        |             | drop        | drop
  int-local-np node http      | b1 +masq    | b1 +masq    | b1 +masq    | b1 +masq
  int-local-np node dns       | b1 +masq    |             | b1 +masq    | b1 +masq
  int-local-np node assoc     | b1 +masq    |             | b1 +masq    | b1 +masq
  both-local cluster http     | a1          |             | a1 +masq    | a1 +masq
  both-local node http        | a1 b1       | a1 b1       | a1 b1 +masq | a1
  both-local-remote cluster http | drop     |             | drop        | drop
  both-local-remote node http | b1          | b1          | b1 +masq    | drop
  unready cluster http        | reject      |             | reject      | reject
  some-unready cluster http   | a2 b1       |             | a2 b1 +masq | a2 b1 +masq
  starting cluster http       | reject      |             | reject      | reject
  terminating cluster http    | a1 b1       |             | a1 b1 +masq | a1 b1 +masq
  terminating cluster dns     | a1 b1       |             | a1 b1 +masq | a1 b1 +masq
  terminating node http       | a1 b1 +masq |             | a1 b1 +masq | a1 b1 +masq
  terminating-beside-ready cluster http | b1 |            | b1 +masq    | b1 +masq
  dead cluster http           | reject      |             | reject      | reject
  dead-beside-terminating cluster http | b1 |             | b1 +masq    | b1 +masq
  local-terminating cluster http | b1       |             | b1 +masq    | b1 +masq
  local-terminating node http | b1          | b1          | b1 +masq    | a1
  local-ready-beside-terminating node http | a1 b1 |      | a1 b1 +masq | a1
  local-dead node http        | b1          | b1          | b1 +masq    | drop
  int-local-terminating cluster http | a1   |             | a1 +masq    | a1 +masq
  zones cluster http          | a1          | a1          | a1 +masq    | a1 +masq
  zones cluster dns           | a1          |             | a1 +masq    | a1 +masq
  zones node http             | a1 +masq    |             | a1 +masq    | a1 +masq
  zones-remote cluster http   | b1          |             | b1 +masq    | b1 +masq
  zones-one-unhinted cluster http | a1 b1 b2 |            | a1 b1 b2 +masq | a1 b1 b2 +masq
  zones-none-here cluster http | a1 b1      |             | a1 b1 +masq | a1 b1 +masq
  zones-unready-unhinted cluster http | a1  |             | a1 +masq    | a1 +masq
  zones-only-terminating cluster http | a1 b1 |           | a1 b1 +masq | a1 b1 +masq
  nodes cluster http          | a1          |             | a1 +masq    | a1 +masq
  nodes-one-unhinted cluster http | a1 b1   |             | a1 b1 +masq | a1 b1 +masq
  nodes-before-zones cluster http | a1      |             | a1 +masq    | a1 +masq
  nodes-none-here cluster http | b1         |             | b1 +masq    | b1 +masq
  zones-and-local cluster http | a2         |             | a2 +masq    | a2 +masq
  zones-and-local node http   | a2          | a2          | a2 +masq    | a1 a2
`);

// A packet for node-a itself never meets postrouting unless node-a sent it, so only then can it be masqueraded.
const HOST_ENDPOINTS = read(`
                              | pod         | peer        | node        | client
  host cluster api            | host        | host        | host +masq  | host
  host node api               | host        | host        | host +masq  | host
  host-remote cluster api     | hostb       | hostb       | hostb +masq | hostb +masq
  host-remote node api        | hostb +masq | hostb +masq | hostb +masq | hostb +masq
`);

const OBJECTS = read(`
                              | pod         | peer        | node        | client
  headless external http      | untouched   |             | untouched   | untouched
  external-name cluster http  | untouched   |             | untouched   | untouched
  foreign-proxy cluster http  | untouched   |             | untouched   | untouched
  foreign-proxy node http     | untouched   |             | untouched   | untouched
  headless-label cluster http | untouched   |             | untouched   | untouched
  overlapping cluster http    | a1 a1:8443 b1:8443 |      | a1 a1:8443 b1:8443 +masq | a1 a1:8443 b1:8443 +masq
  with-fqdn-slice cluster http | a1         |             | a1 +masq    | a1 +masq
  ipv4 endpoints-object cluster http | a1 b1 |            | a1 b1 +masq | a1 b1 +masq
  ipv4 only-v4 cluster http   | a1 b1       |             | a1 b1 +masq | a1 b1 +masq
  ipv4 only-v4 external http  | a1 b1 +masq |             |             | a1 b1 +masq
  ipv4 only-v4 node http      | a1 b1 +masq |             |             | a1 b1 +masq
  ipv6 only-v4 cluster http   | untouched   |             | untouched   | untouched
  ipv6 only-v4 external http  | untouched   |             |             | untouched
  ipv6 only-v4 node http      | untouched   |             |             | untouched
  ipv6 only-v6 cluster http   | a1 b1       |             | a1 b1 +masq | a1 b1 +masq
  ipv6 only-v6 external http  | a1 b1 +masq |             |             | a1 b1 +masq
  ipv6 only-v6 node http      | a1 b1 +masq |             |             | a1 b1 +masq
  ipv4 only-v6 external http  | untouched   |             |             | untouched
  ipv4 only-v6 node http      | untouched   |             |             | untouched
  on-the-node external http   | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq | a1 b1 +masq
  on-the-node external tcp/82 | untouched   |             | untouched   | untouched
  on-the-node cluster http    | a1 b1       |             | a1 b1 +masq | a1 b1 +masq
  shares external alt         | b1 +masq    |             | b1 +masq    | b1 +masq
  older external http         | a1 +masq    |             | a1 +masq    | a1 +masq
  older cluster http          | a1          |             | a1 +masq    | a1 +masq
  an-earlier-name-but-younger cluster http | b1 |         | b1 +masq    | b1 +masq
  web node tcp/9100           | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  multi node tcp/9101         | a1:8443 b1:8443 +masq |   | a1:8443 b1:8443 +masq | a1:8443 b1:8443 +masq
  empty node tcp/9102         | reject      |             | reject      | reject
  np-local-remote node tcp/9103 | b1 b2 +masq |           | b1 b2 +masq | b1 b2 +masq
  web node tcp/9104           | untouched   |             | untouched   | untouched
  int-local-remote node tcp/9105 | b1 +masq |             | b1 +masq    | b1 +masq
  web node udp/9153           | a1 a2 b1 +masq |          | a1 a2 b1 +masq | a1 a2 b1 +masq
  empty node udp/9154         | reject      |             | reject      | reject
  web node udp/9100           | untouched   |             | untouched   | untouched
  web second tcp/9100         | untouched / a1 a2 b1 +masq #default-node-addresses | | | untouched / a1 a2 b1 +masq #default-node-addresses
`);

const WITHOUT_DETECTOR = read(`
                              | pod            | peer           | node           | client
  web cluster http            | a1 a2 b1       | a1 a2 b1       | a1 a2 b1       | a1 a2 b1
  web cluster dns             | a1 a2 b1       | a1 a2 b1       | a1 a2 b1       | a1 a2 b1
  web cluster assoc           | a1 a2 b1       | a1 a2 b1       | a1 a2 b1       | a1 a2 b1
  np node http                | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  np-local node http          | a1             | a1             | a1 b1 b2 +masq | a1
  np-local node dns           | a1             | a1             | a1 b1 b2 +masq | a1
  np-local node assoc         | a1             | a1             | a1 b1 b2 +masq | a1
  np-local-remote node http   | drop           | drop           | b1 b2 +masq    | drop
  lb vip http                 | a1 b1 +masq    | a1 b1 +masq    | a1 b1 +masq    | a1 b1 +masq
  lb-local vip http           | a1             | a1             | a1 b1 +masq    | a1
  lb-local-remote vip dns     | drop           | drop           | b1 +masq       | drop
  ext-local external http     | a1             | a1             | a1 b1 +masq    | a1
  int-local cluster http      | a1             | a1             | a1             | a1
  empty cluster http          | reject         | reject         | reject         | reject
  host cluster api            | host           | host           | host +masq     | host
`);

// Pods of this node are told from all others, also from pods of other nodes.
const PODS_OF_THIS_NODE = read(`
                              | pod            | a1       | peer           | node           | client
  web cluster http            | a1 a2 b1       | a1 a2 b1 | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  web cluster dns             | a1 a2 b1       |          | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  web cluster assoc           | a1 a2 b1       |          | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  single cluster http         | a1             | a1       | a1 +masq       | a1 +masq       | a1 +masq
  int-local cluster http      | a1             |          | a1 +masq       | a1 +masq       | a1 +masq
  int-local-remote cluster http | drop         |          | drop           | drop           | drop
  empty cluster http          | reject         |          | reject         | reject         | reject
  np node http                | a1 a2 b1 +masq |          | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  np-local node http          | a1 b1 b2       | a1 b1 b2 | a1             | a1 b1 b2 +masq | a1
  np-local node dns           | a1 b1 b2       |          | a1             | a1 b1 b2 +masq | a1
  np-local node assoc         | a1 b1 b2       |          | a1             | a1 b1 b2 +masq | a1
  np-local-remote node http   | b1 b2          |          | drop           | b1 b2 +masq    | drop
  lb-local vip http           | a1 b1          |          | a1             | a1 b1 +masq    | a1
  lb-local-remote vip dns     | b1             |          | drop           | b1 +masq       | drop
  ext-local external http     | a1 b1          |          | a1             | a1 b1 +masq    | a1
  host cluster api            | host           |          | host           | host +masq     | host
`);

const SERVICE_RANGE = read(`
                              | pod      | peer     | node           | client
  unallocated cluster tcp/80  | drop / untouched #service-range | drop / untouched #service-range | drop / untouched #service-range | drop / untouched #service-range
  unallocated cluster udp/53  | drop / untouched #service-range | | drop / untouched #service-range | drop / untouched #service-range
  unallocated cluster sctp/132 | drop / untouched #service-range | |                | drop / untouched #service-range
  unallocated cluster icmp    | drop / untouched #service-range | | drop / untouched #service-range | drop / untouched #service-range
  external-name cluster http  | drop / untouched #service-range | |                | drop / untouched #service-range
  web cluster http            | a1 a2 b1 | a1 a2 b1 | a1 a2 b1 +masq | a1 a2 b1 +masq
  web cluster tcp/81          | reject / untouched #undefined-port | | reject / untouched #undefined-port | reject / untouched #undefined-port
  web cluster udp/54          | reject / untouched #undefined-port | | reject / untouched #undefined-port | reject / untouched #undefined-port
  empty cluster http          | reject   |          | reject         | reject
  int-local-remote cluster http | drop   |          | drop           | drop
  np node http                | a1 a2 b1 +masq |    | a1 a2 b1 +masq | a1 a2 b1 +masq
  lb vip http                 | a1 b1 +masq |       | a1 b1 +masq    | a1 b1 +masq
  np node tcp/29999           | untouched |         | untouched      | untouched
  a1 direct tcp/8080          | untouched |         | untouched      | untouched
`);

const MASQUERADE_ALL = read(`
                              | pod            | peer           | node           | client
  web cluster http            | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  web cluster dns             | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  web cluster assoc           | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  int-local cluster http      | a1 +masq       | a1 +masq       | a1 +masq       | a1 +masq
  np node http                | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  np-local node http          | a1 b1 b2       | a1 b1 b2       | a1 b1 b2 +masq | a1
  lb-local vip http           | a1 b1          | a1 b1          | a1 b1 +masq    | a1
`);

const ANOTHER_MARK = read(`
                              | a1          | pod            | node           | client
  web cluster http            | a1 a2 b1    | a1 a2 b1       | a1 a2 b1 +masq | a1 a2 b1 +masq
  np node dns                 |             | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq
  lb-local vip http           |             | a1 b1          | a1 b1 +masq    | a1
`);

const NODE_PORTS_EVERYWHERE = read(`
                              | pod            | node           | client         | loopback
  np node http                | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq |
  np second http              | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq |
  np second dns               | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq |
  np second assoc             | a1 a2 b1 +masq |                | a1 a2 b1 +masq |
  np pods http                | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq |
  np-local second http        | a1 b1 b2       | a1 b1 b2 +masq | a1             |
  np-local-remote second http | b1 b2          | b1 b2 +masq    | drop           |
  np-empty second http        | reject         | reject         | reject         |
  ipv4 np loopback http       |                |                |                | untouched / a1 a2 b1 +masq #localhost
  ipv4 np loopback dns        |                |                |                | untouched / a1 a2 b1 +masq #localhost
  ipv4 np-local loopback http |                |                |                | untouched / a1 b1 b2 +masq #localhost
  ipv6 np loopback http       |                |                |                | untouched
  web second tcp/9100         | a1 a2 b1 +masq |                | a1 a2 b1 +masq |
`);

const NODE_PORTS_IN_A_RANGE = read(`
                              | pod            | node           | client         | loopback
  np second http              | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq |
  np second dns               | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq |
  np node http                | untouched      | untouched      | untouched      |
  np node dns                 | untouched      | untouched      | untouched      |
  np pods http                | untouched      |                | untouched      |
  np loopback http            |                |                |                | untouched
  np-local second http        | a1 b1 b2       | a1 b1 b2 +masq | a1             |
  np-empty second http        | reject         | reject         | reject         |
  np-empty node http          | untouched      | untouched      | untouched      |
  np-local-remote node http   | untouched      | untouched      | untouched      |
  lb vip http                 | a1 b1 +masq    | a1 b1 +masq    | a1 b1 +masq    |
`);

const NODE_PORTS_ON_PRIMARY = read(`
                              | pod            | node           | client         | loopback
  np node http                | a1 a2 b1 +masq | a1 a2 b1 +masq | a1 a2 b1 +masq |
  np second http              | untouched      | untouched      | untouched      |
  np pods http                | untouched      |                | untouched      |
  np loopback http            |                |                |                | untouched
  np-empty node http          | reject         | reject         | reject         |
  np-empty second http        | untouched      | untouched      | untouched      |
`);

const NODE_PORTS_ON_LOCALHOST = read(`
                              | pod            | node           | client         | loopback
  np node http                | untouched      | untouched      | untouched      |
  np second http              | untouched      | untouched      | untouched      |
  np-empty node http          | untouched      | untouched      | untouched      |
  ipv4 np loopback http       |                |                |                | a1 a2 b1 +masq / a1 a2 b1 +masq / untouched #localhost-by-name
  ipv4 np loopback dns        |                |                |                | a1 a2 b1 +masq / a1 a2 b1 +masq / untouched #localhost-by-name
  ipv4 np-local loopback http |                |                |                | a1 b1 b2 +masq / a1 b1 b2 +masq / untouched #localhost-by-name
  ipv4 np-empty loopback http |                |                |                | reject / reject / untouched #localhost-by-name
  ipv4 host loopback api      |                |                |                | host +masq / host +masq / untouched #localhost-by-name
  ipv6 np loopback http       |                |                |                | untouched
  ipv6 np-empty loopback http |                |                |                | untouched
  lb vip http                 | a1 b1 +masq    | a1 b1 +masq    | a1 b1 +masq    |
  lb cluster http             | a1 b1          | a1 b1 +masq    | a1 b1 +masq    |
`);

export const SCENES: readonly Scene[] = [
  {
    name: "pods told by their range",
    flags: [...CLUSTER_CIDR, ...CONFIG_MAPS],
    vectors: [
      ...CLUSTER_IPS,
      ...HAIRPIN,
      ...UNDEFINED,
      ...NODE_PORTS,
      ...LOAD_BALANCERS,
      ...SOURCE_RANGES,
      ...POLICIES,
      ...HOST_ENDPOINTS,
      ...OBJECTS,
    ],
  },
  { name: "no range of pods", flags: [], vectors: WITHOUT_DETECTOR },
  { name: "pods told by the ranges of their Node", flags: ["--node-pod-cidrs"], vectors: PODS_OF_THIS_NODE },
  {
    name: "pods told by their bridge",
    flags: ["--pod-interface", "cni0"],
    vectors: PODS_OF_THIS_NODE,
    podNetwork: "bridged",
  },
  {
    name: "pods told by the names of their links",
    flags: ["--pod-interface-prefix", "veth-"],
    vectors: PODS_OF_THIS_NODE,
    podNetwork: "routed",
  },
  {
    name: "the range of ClusterIPs is known",
    flags: [...CLUSTER_CIDR, "--service-cidr", "172.30.0.0/16,fd00:172:30::/64"],
    vectors: SERVICE_RANGE,
  },
  {
    name: "another bit of the mark",
    flags: [...CLUSTER_CIDR, "--masquerade-bit", "20"],
    vectors: ANOTHER_MARK,
  },
  { name: "masquerade-all", flags: [...CLUSTER_CIDR, "--masquerade-all"], vectors: MASQUERADE_ALL },
  {
    name: "node ports on all addresses",
    flags: [...CLUSTER_CIDR, ...CONFIG_MAPS, "--nodeport-addresses", "all"],
    vectors: NODE_PORTS_EVERYWHERE,
  },
  {
    name: "node ports in one range",
    flags: [...CLUSTER_CIDR, "--nodeport-addresses", "192.168.100.0/24,fd00:192:168:100::/64"],
    vectors: NODE_PORTS_IN_A_RANGE,
  },
  {
    name: "node ports on the primary address",
    flags: [...CLUSTER_CIDR, "--nodeport-addresses", "primary"],
    vectors: NODE_PORTS_ON_PRIMARY,
  },
  {
    name: "node ports on localhost",
    flags: [...CLUSTER_CIDR, "--nodeport-addresses", "localhost"],
    vectors: NODE_PORTS_ON_LOCALHOST,
  },
];
