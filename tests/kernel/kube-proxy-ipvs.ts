/**
 * A node as kube-proxy's IPVS mode leaves it: what `pkg/proxy/ipvs/proxier.go` (Kubernetes 1.31) writes for Services, by the
 * same programs. For Services of policy Cluster without affinity; that is what a take-over has to keep in service.
 */
import { CLUSTER_CIDRS, FAMILIES, type Family, HOSTS, hostPort } from "./addresses.ts";
import { clusterIpOf, externalIpOf, portsOf, vipOf } from "./destinations.ts";
import type { Lab } from "./lab.ts";
import { endpointHost } from "./manifest.ts";
import type { TestService } from "./services.ts";

/** Name after `KUBE-` or `KUBE-6-`, type, and kube-proxy's comment in the rules. */
const SETS = [
  ["LOOP-BACK", "hash:ip,port,ip", "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"],
  ["CLUSTER-IP", "hash:ip,port", "Kubernetes service cluster ip + port for masquerade purpose"],
  ["EXTERNAL-IP", "hash:ip,port", "Kubernetes service external ip + port for masquerade and filter purpose"],
  [
    "EXTERNAL-IP-LOCAL",
    "hash:ip,port",
    "Kubernetes service external ip + port with externalTrafficPolicy=local",
  ],
  ["LOAD-BALANCER", "hash:ip,port", "Kubernetes service lb portal"],
  [
    "LOAD-BALANCER-FW",
    "hash:ip,port",
    "Kubernetes service load balancer ip + port for load balancer with sourceRange",
  ],
  [
    "LOAD-BALANCER-LOCAL",
    "hash:ip,port",
    "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
  ],
  [
    "LOAD-BALANCER-SOURCE-IP",
    "hash:ip,port,ip",
    "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
  ],
  [
    "LOAD-BALANCER-SOURCE-CIDR",
    "hash:ip,port,net",
    "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
  ],
  ["NODE-PORT-TCP", "bitmap:port", "Kubernetes nodeport TCP port for masquerade purpose"],
  ["NODE-PORT-LOCAL-TCP", "bitmap:port", "Kubernetes nodeport TCP port with externalTrafficPolicy=local"],
  ["NODE-PORT-UDP", "bitmap:port", "Kubernetes nodeport UDP port for masquerade purpose"],
  ["NODE-PORT-LOCAL-UDP", "bitmap:port", "Kubernetes nodeport UDP port with externalTrafficPolicy=local"],
  [
    "NODE-PORT-SCTP-HASH",
    "hash:ip,port",
    "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
  ],
  [
    "NODE-PORT-LOCAL-SCTP-HASH",
    "hash:ip,port",
    "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
  ],
  ["HEALTH-CHECK-NODE-PORT", "bitmap:port", "Kubernetes health check node port"],
  ["IPVS-IPS", "hash:ip", "Virtual IPs"],
] as const;
type SetName = (typeof SETS)[number][0];

const SERVER_OPTION = { tcp: "-t", udp: "-u", sctp: "--sctp-service" } as const;
/** Node ports are virtual servers at each address that the node has. */
const NODE_ADDRESSES = ["node-a", "node-a-second", "node-a-pods"] as const;

export async function writeKubeProxyIpvs(lab: Lab, services: readonly TestService[]): Promise<void> {
  const must = (program: string, args: readonly string[], input: string) =>
    lab.namespaces.must("node-a", program, args, { input });
  const states = FAMILIES.map((family) => stateOf(family, services));
  await lab.namespaces.sysctl("node-a", {
    "ipv4/vs/conntrack": "1",
    "ipv4/vs/expire_nodest_conn": "1",
    "ipv4/vs/expire_quiescent_template": "1",
  });
  await lab.namespaces.ip("node-a", [
    "link add name kube-ipvs0 type dummy",
    ...states.flatMap(({ addresses }) =>
      [...addresses].map(
        (address) => `address add ${address}/${address.includes(":") ? 128 : 32} dev kube-ipvs0`,
      ),
    ),
  ]);
  await must("ipvsadm", ["--restore"], states.map(({ servers }) => servers.join("")).join(""));
  for (const { family, sets } of states) {
    await must("ipset", ["restore"], setLines(family, sets));
    await must(
      family === "ipv4" ? "iptables-restore" : "ip6tables-restore",
      ["--noflush", "--counters"],
      rulesOf(family, sets),
    );
  }
}

type Sets = ReadonlyMap<SetName, ReadonlySet<string>>;

interface State {
  readonly family: Family;
  readonly addresses: ReadonlySet<string>;
  readonly servers: readonly string[];
  readonly sets: Sets;
}

function stateOf(family: Family, services: readonly TestService[]): State {
  const addresses = new Set<string>();
  const servers: string[] = [];
  const sets = new Map<SetName, Set<string>>(SETS.map(([name]) => [name, new Set()]));
  const add = (name: SetName, element: string) => sets.get(name)?.add(element);
  for (const service of services) {
    const endpoints = service.endpoints.map((text) => HOSTS[endpointHost(text)][family]);
    for (const { protocol, port, targetPort, nodePort } of portsOf(service)) {
      const serve = (address: string, at: number) => {
        const server = `${SERVER_OPTION[protocol]} ${hostPort(address, at)}`;
        servers.push(`-A ${server} -s rr\n`);
        for (const endpoint of endpoints)
          servers.push(`-a ${server} -r ${hostPort(endpoint, targetPort)} -m -w 1\n`);
      };
      const bind = (name: SetName, address: string) => {
        add(name, `${address},${protocol}:${port}`);
        addresses.add(address);
        serve(address, port);
      };
      for (const endpoint of endpoints) add("LOOP-BACK", `${endpoint},${protocol}:${targetPort},${endpoint}`);
      bind("CLUSTER-IP", clusterIpOf(service)[family]);
      if (service.external) bind("EXTERNAL-IP", externalIpOf(service)[family]);
      if (service.ingress === "vip") {
        const vip = vipOf(service)[family];
        bind("LOAD-BALANCER", vip);
        const ranges = (service.sourceRanges ?? []).map((range) => range.trim());
        const ofFamily = ranges.filter((range) => range.includes(":") === (family === "ipv6"));
        if (ofFamily.length > 0) add("LOAD-BALANCER-FW", `${vip},${protocol}:${port}`);
        for (const range of ofFamily) {
          add("LOAD-BALANCER-SOURCE-CIDR", `${vip},${protocol}:${port},${range}`);
          // A range that holds the node's own address: what the node sends to the address comes from it.
          if (range.startsWith(HOSTS["node-a"][family]))
            add("LOAD-BALANCER-SOURCE-IP", `${vip},${protocol}:${port},${vip}`);
        }
      }
      if (nodePort === undefined) continue;
      for (const host of NODE_ADDRESSES) serve(HOSTS[host][family], nodePort);
      if (protocol === "sctp")
        for (const host of NODE_ADDRESSES)
          add("NODE-PORT-SCTP-HASH", `${HOSTS[host][family]},sctp:${nodePort}`);
      else add(protocol === "tcp" ? "NODE-PORT-TCP" : "NODE-PORT-UDP", String(nodePort));
    }
    const { healthCheckNodePort } = (service.spec ?? {}) as { readonly healthCheckNodePort?: number };
    if (healthCheckNodePort !== undefined) add("HEALTH-CHECK-NODE-PORT", String(healthCheckNodePort));
  }
  for (const address of addresses) add("IPVS-IPS", address);
  return { family, addresses, servers, sets };
}

/** The kernel's limit of a name is 31 bytes. */
function kernelName(family: Family, name: SetName): string {
  return `${family === "ipv4" ? "KUBE-" : "KUBE-6-"}${name}`.slice(0, 31);
}

function setLines(family: Family, sets: Sets): string {
  return SETS.flatMap(([name, kind]) => {
    const header =
      kind === "bitmap:port"
        ? "range 0-65535"
        : `family ${family === "ipv4" ? "inet" : "inet6"} hashsize 1024 maxelem 65536`;
    const own = kernelName(family, name);
    return [
      `create ${own} ${kind} ${header}\n`,
      ...[...(sets.get(name) ?? [])].map((element) => `add ${own} ${element}\n`),
    ];
  }).join("");
}

function rulesOf(family: Family, sets: Sets): string {
  const match = (name: SetName, directions: string): string => {
    const comment = SETS.find(([own]) => own === name)?.[2] ?? "";
    return `-m comment --comment "${comment}" -m set --match-set ${kernelName(family, name)} ${directions}`;
  };
  /** Rules about a set are there as long as it has elements. */
  const rule = (
    chain: string,
    name: SetName,
    directions: string,
    target: string,
    more = "",
  ): readonly string[] =>
    (sets.get(name)?.size ?? 0) > 0 ? [`-A ${chain} ${more}${match(name, directions)} ${target}`] : [];
  const loopback = family === "ipv4" ? "127.0.0.0/8" : "::1/128";
  const offMachine = "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT";
  const nat = [
    `-A KUBE-SERVICES -s ${loopback} -j RETURN`,
    ...rule("KUBE-POSTROUTING", "LOOP-BACK", "dst,dst,src", "-j MASQUERADE"),
    ...rule("KUBE-SERVICES", "LOAD-BALANCER", "dst,dst", "-j KUBE-LOAD-BALANCER"),
    ...rule("KUBE-LOAD-BALANCER", "LOAD-BALANCER-LOCAL", "dst,dst", "-j RETURN"),
    ...rule("KUBE-NODE-PORT", "NODE-PORT-LOCAL-TCP", "dst", "-j RETURN", "-p tcp "),
    ...rule("KUBE-NODE-PORT", "NODE-PORT-TCP", "dst", "-j KUBE-MARK-MASQ", "-p tcp "),
    ...rule("KUBE-NODE-PORT", "NODE-PORT-LOCAL-UDP", "dst", "-j RETURN", "-p udp "),
    ...rule("KUBE-NODE-PORT", "NODE-PORT-UDP", "dst", "-j KUBE-MARK-MASQ", "-p udp "),
    ...rule("KUBE-NODE-PORT", "NODE-PORT-LOCAL-SCTP-HASH", "dst,dst", "-j RETURN", "-p sctp "),
    ...rule("KUBE-NODE-PORT", "NODE-PORT-SCTP-HASH", "dst,dst", "-j KUBE-MARK-MASQ", "-p sctp "),
    ...rule("KUBE-SERVICES", "CLUSTER-IP", "dst,dst", "-j KUBE-MARK-MASQ", `! -s ${CLUSTER_CIDRS[family]} `),
    ...rule("KUBE-SERVICES", "EXTERNAL-IP", "dst,dst", "-j KUBE-MARK-MASQ"),
    ...rule("KUBE-SERVICES", "EXTERNAL-IP", "dst,dst", offMachine),
    ...rule("KUBE-SERVICES", "EXTERNAL-IP", "dst,dst", "-m addrtype --dst-type LOCAL -j ACCEPT"),
    "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
    "-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ",
    ...rule("KUBE-SERVICES", "CLUSTER-IP", "dst,dst", "-j ACCEPT"),
    ...rule("KUBE-SERVICES", "LOAD-BALANCER", "dst,dst", "-j ACCEPT"),
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -m mark ! --mark 0x4000/0x4000 -j RETURN',
    "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
  ];
  const filter = [
    ...rule("KUBE-NODE-PORT", "HEALTH-CHECK-NODE-PORT", "dst", "-j ACCEPT"),
    ...rule("KUBE-PROXY-FIREWALL", "LOAD-BALANCER-FW", "dst,dst", "-j KUBE-SOURCE-RANGES-FIREWALL"),
    ...rule("KUBE-SOURCE-RANGES-FIREWALL", "LOAD-BALANCER-SOURCE-CIDR", "dst,dst,src", "-j RETURN"),
    ...rule("KUBE-SOURCE-RANGES-FIREWALL", "LOAD-BALANCER-SOURCE-IP", "dst,dst,src", "-j RETURN"),
    "-A KUBE-SOURCE-RANGES-FIREWALL -j DROP",
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT',
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    ...(["LOAD-BALANCER", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL"] as const).flatMap((name) =>
      rule("KUBE-IPVS-FILTER", name, "dst,dst", "-j RETURN"),
    ),
    ...rule("KUBE-IPVS-FILTER", "HEALTH-CHECK-NODE-PORT", "dst", "-j RETURN"),
    ...rule("KUBE-IPVS-FILTER", "IPVS-IPS", "dst", "-j REJECT", "-m conntrack --ctstate NEW "),
  ];
  return [
    "*nat",
    ...["SERVICES", "POSTROUTING", "NODE-PORT", "LOAD-BALANCER", "MARK-MASQ"].map(
      (chain) => `:KUBE-${chain} - [0:0]`,
    ),
    '-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    ...nat,
    "COMMIT",
    "*filter",
    ...[
      "FORWARD",
      "NODE-PORT",
      "PROXY-FIREWALL",
      "SOURCE-RANGES-FIREWALL",
      "IPVS-FILTER",
      "IPVS-OUT-FILTER",
    ].map((chain) => `:KUBE-${chain} - [0:0]`),
    '-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    '-I INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT',
    '-I INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL',
    '-I FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL',
    '-I INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER',
    '-I OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER',
    ...filter,
    "COMMIT",
    "",
  ].join("\n");
}
