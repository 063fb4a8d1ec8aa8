/**
 * Rule sets of kube-proxy's shape, written from its published description (KEP-3453, KEP-3866 and its documentation): names,
 * chains, maps and their order. The text is our own generator's, so that there is something to be faster than.
 *
 * In: Services. Out: input for `nft -f` or `iptables-restore`. ClusterIPs only, which is all that the benchmark loads.
 */
import { createHash } from "node:crypto";
import { type BulkService, SERVICE_PORT, TARGET_PORT } from "./cluster.ts";

const POD_RANGE = "10.180.0.0/16";
const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** The first characters of base32(SHA-256(text)). */
function hash(text: string, length: number): string {
  let bits = "";
  for (const byte of createHash("sha256").update(text).digest()) bits += byte.toString(2).padStart(8, "0");
  return Array.from(
    { length },
    (_, index) => BASE32[Number.parseInt(bits.slice(5 * index, 5 * index + 5), 2)],
  ).join("");
}

const serviceChain = ({ name }: BulkService) => `KUBE-SVC-${hash(`${name}:httptcp`, 16)}`;
const endpointChain = ({ name }: BulkService, endpoint: string) =>
  `KUBE-SEP-${hash(`${name}:httptcp${endpoint}:${TARGET_PORT}`, 16)}`;

/** The whole of both tables, as at kube-proxy's start. Comments are left out, as it does above 1 000 endpoints. */
export function iptablesShape(services: readonly BulkService[]): string {
  return [
    "*filter",
    ...declare([
      "KUBE-NODEPORTS",
      "KUBE-EXTERNAL-SERVICES",
      "KUBE-PROXY-FIREWALL",
      "KUBE-FORWARD",
      "KUBE-SERVICES",
    ]),
    "-A INPUT -j KUBE-NODEPORTS",
    "-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES",
    "-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL",
    "-A FORWARD -j KUBE-FORWARD",
    "-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES",
    "-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES",
    "-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL",
    "-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES",
    "-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL",
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
    "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "COMMIT",
    "*nat",
    ...declare(topChains),
    ...services.flatMap((service) => [
      `:${serviceChain(service)} - [0:0]`,
      ...service.endpoints.map((endpoint) => `:${endpointChain(service, endpoint)} - [0:0]`),
    ]),
    "-A PREROUTING -j KUBE-SERVICES",
    "-A OUTPUT -j KUBE-SERVICES",
    "-A POSTROUTING -j KUBE-POSTROUTING",
    ...topRules(services),
    ...services.flatMap(serviceRules),
    "COMMIT",
    "",
  ].join("\n");
}

/**
 * What kube-proxy writes when one Service's endpoints change: the top-level chains whole, and that Service's chains.
 * `gone` are endpoints whose chains are deleted.
 */
export function iptablesPartial(
  services: readonly BulkService[],
  changed: BulkService,
  gone: readonly string[],
): string {
  return [
    "*nat",
    ...declare(topChains),
    ...changedChains(changed, gone),
    ...topRules(services),
    ...serviceRules(changed),
    ...gone.map((endpoint) => `-X ${endpointChain(changed, endpoint)}`),
    "COMMIT",
    "",
  ].join("\n");
}

/** The least that any program could write for the same change. */
export function iptablesLeast(changed: BulkService, gone: readonly string[]): string {
  return [
    "*nat",
    ...changedChains(changed, gone),
    ...serviceRules(changed),
    ...gone.map((endpoint) => `-X ${endpointChain(changed, endpoint)}`),
    "COMMIT",
    "",
  ].join("\n");
}

const topChains = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"];

function declare(chains: readonly string[]): readonly string[] {
  return chains.map((chain) => `:${chain} - [0:0]`);
}

function changedChains(changed: BulkService, gone: readonly string[]): readonly string[] {
  return declare([
    serviceChain(changed),
    ...[...changed.endpoints, ...gone].map((endpoint) => endpointChain(changed, endpoint)),
  ]);
}

function topRules(services: readonly BulkService[]): readonly string[] {
  return [
    "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
    "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
    "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
    ...services.map(
      (service) =>
        `-A KUBE-SERVICES -d ${service.clusterIP}/32 -p tcp -m tcp --dport ${SERVICE_PORT} -j ${serviceChain(service)}`,
    ),
    "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
  ];
}

function serviceRules(service: BulkService): readonly string[] {
  const chain = serviceChain(service);
  const { endpoints, clusterIP } = service;
  return [
    `-A ${chain} -d ${clusterIP}/32 ! -s ${POD_RANGE} -p tcp -m tcp --dport ${SERVICE_PORT} -j KUBE-MARK-MASQ`,
    ...endpoints.map((endpoint, index) => {
      const left = endpoints.length - index;
      const chance = left === 1 ? "" : ` -m statistic --mode random --probability ${(1 / left).toFixed(10)}`;
      return `-A ${chain}${chance} -j ${endpointChain(service, endpoint)}`;
    }),
    ...endpoints.flatMap((endpoint) => [
      `-A ${endpointChain(service, endpoint)} -s ${endpoint}/32 -j KUBE-MARK-MASQ`,
      `-A ${endpointChain(service, endpoint)} -p tcp -m tcp -j DNAT --to-destination ${endpoint}:${TARGET_PORT}`,
    ]),
  ];
}

const nftReadable = ({ name }: BulkService) => `${name}/tcp/http`;
const nftService = (service: BulkService) =>
  `service-${hash(nftReadable(service), 8)}-${nftReadable(service)}`;
const nftEndpoint = (service: BulkService, endpoint: string) => {
  const readable = `${nftReadable(service)}__${endpoint}/${TARGET_PORT}`;
  return `endpoint-${hash(readable, 8)}-${readable}`;
};

/** One transaction: base chains, sets and maps, then a chain for every Service and every endpoint. */
export function nftablesShape(services: readonly BulkService[]): string {
  return [
    "add table ip kube-proxy",
    "add set ip kube-proxy cluster-ips { type ipv4_addr ; }",
    "add set ip kube-proxy nodeport-ips { type ipv4_addr ; }",
    "add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }",
    "add map ip kube-proxy service-nodeports { type inet_proto . inet_service : verdict ; }",
    "add map ip kube-proxy firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }",
    "add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict ; }",
    "add map ip kube-proxy no-endpoint-nodeports { type inet_proto . inet_service : verdict ; }",
    ...NFT_CHAINS.map(
      ([name, hook]) => `add chain ip kube-proxy ${name}${hook === "" ? "" : ` { ${hook} ; }`}`,
    ),
    ...NFT_RULES.map(([chain, rule]) => `add rule ip kube-proxy ${chain} ${rule}`),
    ...services.flatMap((service) => [
      ...service.endpoints.flatMap((endpoint) => nftEndpointRules(service, endpoint)),
      ...nftServiceRules(service),
      `add element ip kube-proxy cluster-ips { ${service.clusterIP} }`,
      `add element ip kube-proxy service-ips { ${service.clusterIP} . tcp . ${SERVICE_PORT} : goto ${nftService(service)} }`,
    ]),
    "",
  ].join("\n");
}

/** What changes with one endpoint: its chain is replaced by another's, and the Service's chain is written anew. */
export function nftablesChange(changed: BulkService, gone: readonly string[]): string {
  const fresh = changed.endpoints.filter((endpoint) => !gone.includes(endpoint));
  return [
    ...fresh.flatMap((endpoint) => nftEndpointRules(changed, endpoint)),
    ...nftServiceRules(changed),
    ...gone.flatMap((endpoint) => [
      `flush chain ip kube-proxy ${nftEndpoint(changed, endpoint)}`,
      `delete chain ip kube-proxy ${nftEndpoint(changed, endpoint)}`,
    ]),
    "",
  ].join("\n");
}

function nftEndpointRules(service: BulkService, endpoint: string): readonly string[] {
  const chain = nftEndpoint(service, endpoint);
  return [
    `add chain ip kube-proxy ${chain}`,
    `flush chain ip kube-proxy ${chain}`,
    `add rule ip kube-proxy ${chain} ip saddr ${endpoint} jump mark-for-masquerade`,
    `add rule ip kube-proxy ${chain} meta l4proto tcp dnat to ${endpoint}:${TARGET_PORT}`,
  ];
}

function nftServiceRules(service: BulkService): readonly string[] {
  const chain = nftService(service);
  const targets = service.endpoints.map(
    (endpoint, index) => `${index} : goto ${nftEndpoint(service, endpoint)}`,
  );
  return [
    `add chain ip kube-proxy ${chain}`,
    `flush chain ip kube-proxy ${chain}`,
    `add rule ip kube-proxy ${chain} ip daddr ${service.clusterIP} tcp dport ${SERVICE_PORT} ip saddr != ${POD_RANGE} jump mark-for-masquerade`,
    `add rule ip kube-proxy ${chain} numgen random mod ${targets.length} vmap { ${targets.join(" , ")} }`,
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

const NFT_RULES = [
  ["mark-for-masquerade", "mark set mark or 0x4000"],
  ["masquerading", "mark and 0x4000 == 0 return"],
  ["masquerading", "mark set mark xor 0x4000"],
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
