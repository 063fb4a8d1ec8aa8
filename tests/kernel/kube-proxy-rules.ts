/**
 * Rule sets as kube-proxy would have written them in its iptables and its nftables mode, from its published description
 * (KEP-3178, KEP-3453, KEP-3866 and its documentation): names, chains, maps and their order. The text is our own generator's.
 *
 * In: ports of Services, of one family. Out: input for `iptables-restore`, `ip6tables-restore` or `nft -f`. External policy and
 * internal policy are Cluster, and there is no session affinity: that is enough to be taken over from, and to be faster than.
 */
import { createHash } from "node:crypto";
import { CLUSTER_CIDRS, type Family, hostPort } from "./addresses.ts";

export interface ProxiedPort {
  /** `namespace/name` of the Service. */
  readonly service: string;
  /** Name of the port. */
  readonly name: string;
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly clusterIp: string;
  readonly port: number;
  readonly nodePort?: number | undefined;
  /** iptables: further addresses from outside, external IPs and a load balancer's. */
  readonly outsideIps?: readonly string[];
  readonly endpoints: readonly ProxiedEndpoint[];
}

export interface ProxiedEndpoint {
  readonly address: string;
  readonly port: number;
}

export interface ProxiedNode {
  readonly family: Family;
  /** nftables: the addresses that have node ports. iptables: every address has them. */
  readonly nodePortIps?: readonly string[];
  /** iptables: a comment in every rule of a Service; kube-proxy leaves them out above 1 000 endpoints. */
  readonly comments?: boolean;
}

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const MARK = "0x4000";

/** The first characters of base32(SHA-256(text)). */
function hash(text: string, length: number): string {
  let bits = "";
  for (const byte of createHash("sha256").update(text).digest()) bits += byte.toString(2).padStart(8, "0");
  return Array.from(
    { length },
    (_, index) => BASE32[Number.parseInt(bits.slice(5 * index, 5 * index + 5), 2)],
  ).join("");
}

// Mode iptables.

type IptablesTable = "filter" | "nat" | "mangle";

const CHAINS: Readonly<Record<IptablesTable, readonly string[]>> = {
  filter: [
    "KUBE-NODEPORTS",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-PROXY-FIREWALL",
    "KUBE-FORWARD",
    "KUBE-SERVICES",
    "KUBE-PROXY-CANARY",
  ],
  nat: ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-PROXY-CANARY"],
  mangle: ["KUBE-PROXY-CANARY"],
};

const NEW = "-m conntrack --ctstate NEW";
const LOAD_BALANCERS = "kubernetes load balancer firewall";
const OUTSIDE = "kubernetes externally-visible service portals";
const SERVICES = "kubernetes service portals";

/** Jumps from the kernel's own chains, each inserted before all that stands there. */
const JUMPS: Readonly<Record<"filter" | "nat", readonly string[]>> = {
  filter: [
    `-I INPUT ${said("kubernetes health check service ports")} -j KUBE-NODEPORTS`,
    `-I INPUT ${NEW} ${said(OUTSIDE)} -j KUBE-EXTERNAL-SERVICES`,
    `-I INPUT ${NEW} ${said(LOAD_BALANCERS)} -j KUBE-PROXY-FIREWALL`,
    `-I FORWARD ${NEW} ${said(OUTSIDE)} -j KUBE-EXTERNAL-SERVICES`,
    `-I FORWARD ${NEW} ${said(SERVICES)} -j KUBE-SERVICES`,
    `-I FORWARD ${said("kubernetes forwarding rules")} -j KUBE-FORWARD`,
    `-I FORWARD ${NEW} ${said(LOAD_BALANCERS)} -j KUBE-PROXY-FIREWALL`,
    `-I OUTPUT ${NEW} ${said(SERVICES)} -j KUBE-SERVICES`,
    `-I OUTPUT ${NEW} ${said(LOAD_BALANCERS)} -j KUBE-PROXY-FIREWALL`,
  ],
  nat: [
    `-I PREROUTING ${said(SERVICES)} -j KUBE-SERVICES`,
    `-I OUTPUT ${said(SERVICES)} -j KUBE-SERVICES`,
    `-I POSTROUTING ${said("kubernetes postrouting rules")} -j KUBE-POSTROUTING`,
  ],
};

function said(text: string): string {
  return `-m comment --comment "${text}"`;
}

/** The whole of all tables, as at kube-proxy's start. */
export function kubeProxyIptables(ports: readonly ProxiedPort[], node: ProxiedNode): string {
  const proxied = ports.filter(hasEndpoints);
  return [
    "*mangle",
    ...declare(CHAINS.mangle),
    "COMMIT",
    "*filter",
    ...declare(CHAINS.filter),
    ...JUMPS.filter,
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
    `-A KUBE-FORWARD ${said("kubernetes forwarding rules")} -m mark --mark ${MARK}/${MARK} -j ACCEPT`,
    `-A KUBE-FORWARD ${said("kubernetes forwarding conntrack rule")} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    ...ports.filter((port) => !hasEndpoints(port)).flatMap((port) => refusals(port, node)),
    "COMMIT",
    "*nat",
    ...declare(CHAINS.nat),
    ...declare(proxied.flatMap((port) => chainsOf(port, port.endpoints))),
    ...JUMPS.nat,
    ...topRules(proxied, node),
    ...proxied.flatMap((port) => portRules(port, node)),
    "COMMIT",
    "",
  ].join("\n");
}

/**
 * What kube-proxy writes when one port's endpoints change: the top-level chains whole, and that port's chains.
 * `gone` are endpoints whose chains are deleted.
 */
export function kubeProxyIptablesChange(
  ports: readonly ProxiedPort[],
  changed: ProxiedPort,
  gone: readonly ProxiedEndpoint[],
  node: ProxiedNode,
): string {
  return [
    "*nat",
    ...declare(["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"]),
    ...declare(chainsOf(changed, [...changed.endpoints, ...gone])),
    ...topRules(ports, node),
    ...portRules(changed, node),
    ...gone.map((endpoint) => `-X ${endpointChain(changed, endpoint)}`),
    "COMMIT",
    "",
  ].join("\n");
}

/** The least that any program could write for the same change. */
export function leastIptablesChange(
  changed: ProxiedPort,
  gone: readonly ProxiedEndpoint[],
  node: ProxiedNode,
): string {
  return [
    "*nat",
    ...declare(chainsOf(changed, [...changed.endpoints, ...gone])),
    ...portRules(changed, node),
    ...gone.map((endpoint) => `-X ${endpointChain(changed, endpoint)}`),
    "COMMIT",
    "",
  ].join("\n");
}

function declare(chains: readonly string[]): readonly string[] {
  return chains.map((chain) => `:${chain} - [0:0]`);
}

function hasEndpoints({ endpoints }: ProxiedPort): boolean {
  return endpoints.length > 0;
}

const portId = ({ service, name, protocol }: ProxiedPort) => `${service}:${name}${protocol}`;
const serviceChain = (port: ProxiedPort) => `KUBE-SVC-${hash(portId(port), 16)}`;
const externalChain = (port: ProxiedPort) => `KUBE-EXT-${hash(portId(port), 16)}`;
const endpointChain = (port: ProxiedPort, { address, port: number }: ProxiedEndpoint) =>
  `KUBE-SEP-${hash(`${portId(port)}${hostPort(address, number)}`, 16)}`;

function isReachedFromOutside({ nodePort, outsideIps = [] }: ProxiedPort): boolean {
  return nodePort !== undefined || outsideIps.length > 0;
}

function chainsOf(port: ProxiedPort, endpoints: readonly ProxiedEndpoint[]): readonly string[] {
  return [
    serviceChain(port),
    ...(isReachedFromOutside(port) ? [externalChain(port)] : []),
    ...endpoints.map((endpoint) => endpointChain(port, endpoint)),
  ];
}

function host(address: string): string {
  return `${address}/${address.includes(":") ? 128 : 32}`;
}

function to(address: string, { protocol, port }: ProxiedPort): string {
  return `-d ${host(address)} -p ${protocol} -m ${protocol} --dport ${port}`;
}

function toClusterIp(port: ProxiedPort): string {
  return to(port.clusterIp, port);
}

/** `-m comment --comment "default/web:http cluster IP"`, with the blank that goes before the rest. */
function comment({ comments = false }: ProxiedNode, { service, name }: ProxiedPort, what: string): string {
  return comments ? `${said(`${service}:${name}${what}`)} ` : "";
}

function refusals(port: ProxiedPort, node: ProxiedNode): readonly string[] {
  const { protocol, nodePort, outsideIps = [] } = port;
  const why = comment(node, port, " has no endpoints");
  return [
    `-A KUBE-SERVICES ${why}${toClusterIp(port)} -j REJECT`,
    ...outsideIps.map((ip) => `-A KUBE-EXTERNAL-SERVICES ${why}${to(ip, port)} -j REJECT`),
    ...(nodePort === undefined
      ? []
      : [
          `-A KUBE-EXTERNAL-SERVICES ${why}-m addrtype --dst-type LOCAL -p ${protocol} -m ${protocol} --dport ${nodePort} -j REJECT`,
        ]),
  ];
}

function topRules(ports: readonly ProxiedPort[], node: ProxiedNode): readonly string[] {
  return [
    `-A KUBE-POSTROUTING -m mark ! --mark ${MARK}/${MARK} -j RETURN`,
    `-A KUBE-POSTROUTING -j MARK --xor-mark ${MARK}`,
    `-A KUBE-POSTROUTING ${said("kubernetes service traffic requiring SNAT")} -j MASQUERADE --random-fully`,
    `-A KUBE-MARK-MASQ -j MARK --or-mark ${MARK}`,
    ...ports.flatMap((port) => {
      const { protocol, nodePort, outsideIps = [] } = port;
      return [
        `-A KUBE-SERVICES ${comment(node, port, " cluster IP")}${toClusterIp(port)} -j ${serviceChain(port)}`,
        ...outsideIps.map(
          (ip) =>
            `-A KUBE-SERVICES ${comment(node, port, " external IP")}${to(ip, port)} -j ${externalChain(port)}`,
        ),
        ...(nodePort === undefined
          ? []
          : [
              `-A KUBE-NODEPORTS ${comment(node, port, "")}-p ${protocol} -m ${protocol} --dport ${nodePort} -j ${externalChain(port)}`,
            ]),
      ];
    }),
    `-A KUBE-SERVICES ${said("kubernetes service nodeports; NOTE: this must be the last rule in this chain")} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`,
  ];
}

function portRules(port: ProxiedPort, node: ProxiedNode): readonly string[] {
  const { endpoints, protocol } = port;
  const chain = serviceChain(port);
  const external = externalChain(port);
  const id = comment(node, port, "");
  return [
    ...(isReachedFromOutside(port)
      ? [
          `-A ${external} ${comment(node, port, " external destinations")}-j KUBE-MARK-MASQ`,
          `-A ${external} -j ${chain}`,
        ]
      : []),
    `-A ${chain} ${comment(node, port, " cluster IP")}! -s ${CLUSTER_CIDRS[node.family]} ${toClusterIp(port)} -j KUBE-MARK-MASQ`,
    ...endpoints.map((endpoint, index) => {
      const left = endpoints.length - index;
      const chance = left === 1 ? "" : `-m statistic --mode random --probability ${(1 / left).toFixed(10)} `;
      return `-A ${chain} ${id}${chance}-j ${endpointChain(port, endpoint)}`;
    }),
    ...endpoints.flatMap((endpoint) => [
      `-A ${endpointChain(port, endpoint)} ${id}-s ${host(endpoint.address)} -j KUBE-MARK-MASQ`,
      `-A ${endpointChain(port, endpoint)} ${id}-p ${protocol} -m ${protocol} -j DNAT --to-destination ${hostPort(endpoint.address, endpoint.port)}`,
    ]),
  ];
}

// Mode nftables.

/** The table of mode nftables, in either family. */
const TABLE = "kube-proxy";

const IP = { ipv4: "ip", ipv6: "ip6" } as const satisfies Record<Family, string>;

/** One transaction: base chains, sets and maps, then a chain for every port and every endpoint. */
export function kubeProxyNftables(ports: readonly ProxiedPort[], node: ProxiedNode): string {
  const { family, nodePortIps = [] } = node;
  const table = `${IP[family]} ${TABLE}`;
  const address = family === "ipv4" ? "ipv4_addr" : "ipv6_addr";
  const element = (map: string, text: string) => `add element ${table} ${map} { ${text} }`;
  return [
    `add table ${table} { comment "rules for kube-proxy" ; }`,
    `add set ${table} cluster-ips { type ${address} ; comment "Active ClusterIPs" ; }`,
    `add set ${table} nodeport-ips { type ${address} ; comment "IPs that accept NodePort traffic" ; }`,
    ...["service-ips", "firewall-ips", "no-endpoint-services"].map(
      (map) => `add map ${table} ${map} { type ${address} . inet_proto . inet_service : verdict ; }`,
    ),
    ...["service-nodeports", "no-endpoint-nodeports"].map(
      (map) => `add map ${table} ${map} { type inet_proto . inet_service : verdict ; }`,
    ),
    ...NFT_CHAINS.map(([name, hook]) => `add chain ${table} ${name}${hook === "" ? "" : ` { ${hook} ; }`}`),
    ...NFT_RULES.map(
      ([chain, rule]) => `add rule ${table} ${chain} ${rule.replaceAll("ip daddr", `${IP[family]} daddr`)}`,
    ),
    ...nodePortIps.map((ip) => element("nodeport-ips", ip)),
    ...[...new Set(ports.map(({ clusterIp }) => clusterIp))].map((ip) => element("cluster-ips", ip)),
    ...ports.flatMap((port) => {
      const { endpoints, clusterIp, protocol, nodePort } = port;
      const key = `${clusterIp} . ${protocol} . ${port.port}`;
      const nodeKey = `${protocol} . ${nodePort}`;
      if (endpoints.length === 0) {
        return [
          element("no-endpoint-services", `${key} : goto reject-chain`),
          ...(nodePort === undefined
            ? []
            : [element("no-endpoint-nodeports", `${nodeKey} : goto reject-chain`)]),
        ];
      }
      return [
        ...endpoints.flatMap((endpoint) => nftEndpointRules(port, endpoint, node)),
        ...nftPortRules(port, node),
        element("service-ips", `${key} : goto ${nftServiceChain(port)}`),
        ...(nodePort === undefined
          ? []
          : [element("service-nodeports", `${nodeKey} : goto ${nftExternalChain(port)}`)]),
      ];
    }),
    "",
  ].join("\n");
}

/** What changes with one endpoint: its chain is replaced by another's, and the port's chain is written anew. */
export function kubeProxyNftablesChange(
  changed: ProxiedPort,
  gone: readonly ProxiedEndpoint[],
  node: ProxiedNode,
): string {
  const table = `${IP[node.family]} ${TABLE}`;
  const isGone = ({ address, port }: ProxiedEndpoint) =>
    gone.some((endpoint) => endpoint.address === address && endpoint.port === port);
  return [
    ...changed.endpoints
      .filter((endpoint) => !isGone(endpoint))
      .flatMap((endpoint) => nftEndpointRules(changed, endpoint, node)),
    ...nftPortRules(changed, node),
    ...gone.flatMap((endpoint) => [
      `flush chain ${table} ${nftEndpointChain(changed, endpoint)}`,
      `delete chain ${table} ${nftEndpointChain(changed, endpoint)}`,
    ]),
    "",
  ].join("\n");
}

const readable = ({ service, protocol, name }: ProxiedPort) => `${service}/${protocol}/${name}`;
const nftName = (prefix: string, text: string) => `${prefix}-${hash(text, 8)}-${text}`;
const nftServiceChain = (port: ProxiedPort) => nftName("service", readable(port));
const nftExternalChain = (port: ProxiedPort) => nftName("external", readable(port));
const nftEndpointChain = (port: ProxiedPort, endpoint: ProxiedEndpoint) =>
  nftName("endpoint", `${readable(port)}__${endpoint.address.replaceAll(":", ".")}/${endpoint.port}`);

function nftEndpointRules(
  port: ProxiedPort,
  endpoint: ProxiedEndpoint,
  { family }: ProxiedNode,
): readonly string[] {
  const chain = `${IP[family]} ${TABLE} ${nftEndpointChain(port, endpoint)}`;
  return [
    `add chain ${chain}`,
    `flush chain ${chain}`,
    `add rule ${chain} ${IP[family]} saddr ${endpoint.address} jump mark-for-masquerade`,
    `add rule ${chain} meta l4proto ${port.protocol} dnat to ${hostPort(endpoint.address, endpoint.port)}`,
  ];
}

function nftPortRules(port: ProxiedPort, { family }: ProxiedNode): readonly string[] {
  const ip = IP[family];
  const chain = `${ip} ${TABLE} ${nftServiceChain(port)}`;
  const external = `${ip} ${TABLE} ${nftExternalChain(port)}`;
  const targets = port.endpoints.map(
    (endpoint, index) => `${index} : goto ${nftEndpointChain(port, endpoint)}`,
  );
  return [
    `add chain ${chain}`,
    `flush chain ${chain}`,
    `add rule ${chain} ${ip} daddr ${port.clusterIp} ${port.protocol} dport ${port.port} ${ip} saddr != ${CLUSTER_CIDRS[family]} jump mark-for-masquerade`,
    `add rule ${chain} numgen random mod ${targets.length} vmap { ${targets.join(" , ")} }`,
    ...(port.nodePort === undefined
      ? []
      : [
          `add chain ${external}`,
          `flush chain ${external}`,
          `add rule ${external} jump mark-for-masquerade`,
          `add rule ${external} goto ${nftServiceChain(port)}`,
        ]),
  ];
}

const NFT_CHAINS = [
  ["mark-for-masquerade", ""],
  ["masquerading", ""],
  ["services", ""],
  ["reject-chain", ""],
  ["firewall-check", ""],
  ["service-endpoints-check", ""],
  ["nodeport-endpoints-check", ""],
  ["cluster-ips-check", ""],
  ["filter-prerouting-pre-dnat", "type filter hook prerouting priority -110"],
  ["filter-output-pre-dnat", "type filter hook output priority -110"],
  ["nat-prerouting", "type nat hook prerouting priority -100"],
  ["nat-output", "type nat hook output priority -100"],
  ["filter-input", "type filter hook input priority 0"],
  ["filter-forward", "type filter hook forward priority 0"],
  ["filter-output", "type filter hook output priority 0"],
  ["nat-postrouting", "type nat hook postrouting priority 100"],
] as const;

/** Of IPv4; in IPv6 only the family's word differs. */
const NFT_RULES = [
  ["mark-for-masquerade", `mark set mark or ${MARK}`],
  ["masquerading", `mark and ${MARK} == 0 return`],
  ["masquerading", `mark set mark xor ${MARK}`],
  ["masquerading", "masquerade fully-random"],
  ["reject-chain", "reject"],
  ["firewall-check", "ip daddr . meta l4proto . th dport vmap @firewall-ips"],
  ["service-endpoints-check", "ip daddr . meta l4proto . th dport vmap @no-endpoint-services"],
  ["nodeport-endpoints-check", "ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports"],
  ["cluster-ips-check", "ip daddr @cluster-ips reject"],
  ["services", "ip daddr . meta l4proto . th dport vmap @service-ips"],
  ["services", "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports"],
  ["filter-prerouting-pre-dnat", "ct state new jump firewall-check"],
  ["filter-output-pre-dnat", "ct state new jump firewall-check"],
  ["nat-prerouting", "jump services"],
  ["nat-output", "jump services"],
  ["nat-postrouting", "jump masquerading"],
  ["filter-input", "ct state new jump nodeport-endpoints-check"],
  ["filter-input", "ct state new jump service-endpoints-check"],
  ["filter-forward", "ct state new jump service-endpoints-check"],
  ["filter-forward", "ct state new jump cluster-ips-check"],
  ["filter-output", "ct state new jump service-endpoints-check"],
  ["filter-output", "ct state new jump cluster-ips-check"],
] as const;
