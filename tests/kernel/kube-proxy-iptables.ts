/**
 * A node as kube-proxy's iptables mode leaves it: what `pkg/proxy/iptables/proxier.go` (Kubernetes 1.31) writes for Services of
 * policy Cluster without affinity and source ranges.
 */
import { createHash } from "node:crypto";
import { CLUSTER_CIDRS, FAMILIES, type Family, HOSTS, hostPort } from "./addresses.ts";
import { clusterIpOf, externalIpOf, portsOf, vipOf } from "./destinations.ts";
import type { Lab } from "./lab.ts";
import { endpointHost } from "./manifest.ts";
import type { TestService } from "./services.ts";

export async function writeKubeProxyIptables(lab: Lab, services: readonly TestService[]): Promise<void> {
  for (const family of FAMILIES) {
    const program = family === "ipv4" ? "iptables-restore" : "ip6tables-restore";
    await lab.namespaces.must("node-a", program, ["--noflush", "--counters"], {
      input: tablesOf(family, services),
    });
  }
}

function tablesOf(family: Family, services: readonly TestService[]): string {
  const chains: string[] = [];
  const portals: string[] = [];
  const nodePorts: string[] = [];
  const rules: string[] = [];
  const refused: string[] = [];
  const refusedFromOutside: string[] = [];
  const bits = family === "ipv4" ? 32 : 128;
  const reject = `-j REJECT --reject-with ${family === "ipv4" ? "icmp" : "icmp6"}-port-unreachable`;
  for (const service of services) {
    for (const { name, protocol, port, targetPort, nodePort } of portsOf(service)) {
      const label = `default/${service.name}:${name}`;
      const endpoints = service.endpoints.map((text) =>
        hostPort(HOSTS[endpointHost(text)][family], targetPort),
      );
      const to = (address: string) =>
        `-m comment --comment "${label} cluster IP" -d ${address}/${bits} -p ${protocol} --dport ${port}`;
      const outside = [
        ...(service.external ? [externalIpOf(service)[family]] : []),
        ...(service.ingress === "vip" ? [vipOf(service)[family]] : []),
      ];
      const clusterIp = clusterIpOf(service)[family];
      if (endpoints.length === 0) {
        refused.push(`-A KUBE-SERVICES ${to(clusterIp)} ${reject}`);
        for (const address of outside)
          refusedFromOutside.push(`-A KUBE-EXTERNAL-SERVICES ${to(address)} ${reject}`);
        if (nodePort !== undefined)
          refusedFromOutside.push(
            `-A KUBE-EXTERNAL-SERVICES -p ${protocol} -m addrtype --dst-type LOCAL -m ${protocol} --dport ${nodePort} ${reject}`,
          );
        continue;
      }
      const hash = hashOf(label, protocol);
      chains.push(`KUBE-SVC-${hash}`);
      portals.push(`-A KUBE-SERVICES ${to(clusterIp)} -j KUBE-SVC-${hash}`);
      rules.push(`-A KUBE-SVC-${hash} ! -s ${CLUSTER_CIDRS[family]} ${to(clusterIp)} -j KUBE-MARK-MASQ`);
      if (outside.length > 0 || nodePort !== undefined) {
        chains.push(`KUBE-EXT-${hash}`);
        rules.push(`-A KUBE-EXT-${hash} -j KUBE-MARK-MASQ`, `-A KUBE-EXT-${hash} -j KUBE-SVC-${hash}`);
        for (const address of outside) portals.push(`-A KUBE-SERVICES ${to(address)} -j KUBE-EXT-${hash}`);
        if (nodePort !== undefined)
          nodePorts.push(`-A KUBE-NODEPORTS -p ${protocol} --dport ${nodePort} -j KUBE-EXT-${hash}`);
      }
      for (const [index, endpoint] of endpoints.entries()) {
        const own = `KUBE-SEP-${hashOf(label, protocol, endpoint)}`;
        const left = endpoints.length - index;
        const chance =
          left === 1 ? "" : `-m statistic --mode random --probability ${(1 / left).toFixed(10)} `;
        chains.push(own);
        rules.push(
          `-A KUBE-SVC-${hash} ${chance}-j ${own}`,
          `-A ${own} -s ${HOSTS[endpointHost(service.endpoints[index] ?? "")][family]} -j KUBE-MARK-MASQ`,
          `-A ${own} -p ${protocol} -j DNAT --to-destination ${endpoint}`,
        );
      }
    }
  }
  const fresh = "-m conntrack --ctstate NEW";
  return [
    "*mangle",
    ":KUBE-PROXY-CANARY - [0:0]",
    "COMMIT",
    "*filter",
    ...["NODEPORTS", "EXTERNAL-SERVICES", "FORWARD", "SERVICES", "PROXY-FIREWALL", "PROXY-CANARY"].map(
      (chain) => `:KUBE-${chain} - [0:0]`,
    ),
    `-I INPUT ${fresh} -j KUBE-EXTERNAL-SERVICES`,
    "-I INPUT -j KUBE-NODEPORTS",
    `-I INPUT ${fresh} -j KUBE-PROXY-FIREWALL`,
    `-I FORWARD ${fresh} -j KUBE-EXTERNAL-SERVICES`,
    `-I FORWARD ${fresh} -j KUBE-SERVICES`,
    `-I FORWARD ${fresh} -j KUBE-PROXY-FIREWALL`,
    '-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    `-I OUTPUT ${fresh} -j KUBE-SERVICES`,
    `-I OUTPUT ${fresh} -j KUBE-PROXY-FIREWALL`,
    ...refused,
    ...refusedFromOutside,
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
    "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "COMMIT",
    "*nat",
    ...["SERVICES", "NODEPORTS", "POSTROUTING", "MARK-MASQ", "PROXY-CANARY"].map(
      (chain) => `:KUBE-${chain} - [0:0]`,
    ),
    ...chains.map((chain) => `:${chain} - [0:0]`),
    '-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    ...portals,
    "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
    ...nodePorts,
    ...rules,
    "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
    "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
    "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
    "COMMIT",
    "",
  ].join("\n");
}

/** Sixteen characters in base 32 of the hash, as kube-proxy names its chains. */
function hashOf(label: string, protocol: string, endpoint = ""): string {
  const digest = createHash("sha256").update(`${label}${protocol}${endpoint}`).digest();
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  let text = "";
  for (let bit = 0; text.length < 16; bit += 5) {
    const pair = ((digest[bit >> 3] ?? 0) << 8) | (digest[(bit >> 3) + 1] ?? 0);
    text += alphabet[(pair >> (11 - (bit & 7))) & 31];
  }
  return text;
}
