/**
 * The outbound policy as rules: who leaves the cluster by which address.
 *
 * In: a policy, the Pods of this node, the addresses that the node owns. Out: rules by family, and sentences about source
 * addresses that the node does not own. In nftables they stand behind the rules of Services (priority 101): a packet
 * whose source those have chosen never comes here.
 */

import type { IpFamily, Pod } from "../../cluster/model.ts";
import { hasOwnAddresses } from "../pods-of-node.ts";
import type { SideRulesByFamily } from "../side-rules/keeper.ts";
import { type SideRules, sideChain } from "../side-rules/side-rules.ts";
import { type EgressRule, LINK_LOCAL, type OutboundPolicy } from "./policy.ts";

export interface OutboundRules {
  readonly rules: SideRulesByFamily;
  readonly notes: readonly string[];
}

const FAMILIES = ["IPv4", "IPv6"] as const satisfies readonly IpFamily[];

export function outboundRules(
  policy: OutboundPolicy,
  pods: Iterable<Pod>,
  node: string,
  owns: (address: string) => boolean,
): OutboundRules {
  const notes = new Set<string>();
  const sources: Record<IpFamily, Map<string, string>> = { IPv4: new Map(), IPv6: new Map() };
  for (const pod of pods) {
    if (!hasOwnAddresses(pod, node)) continue;
    const rule = policy.egress.find((one) => fits(one, pod));
    if (rule === undefined) continue;
    for (const family of FAMILIES) {
      const source = rule.sourceIps[family];
      if (source === undefined) continue;
      if (!owns(source)) {
        notes.add(
          `egress: this node does not own ${source}, so Pods that shall leave by it get another address of the node`,
        );
        continue;
      }
      for (const address of pod.podIPs)
        if (familyOf(address) === family) sources[family].set(address, source);
    }
  }
  const rules: Partial<Record<IpFamily, SideRules | undefined>> = {};
  for (const family of FAMILIES) {
    const cidrs = policy.nonMasqueradeCidrs.filter((cidr) => familyOf(cidr) === family);
    if (cidrs.length === 0 && sources[family].size === 0) continue;
    const kept = policy.masqueradeLinkLocal[family] ? cidrs : [...cidrs, LINK_LOCAL[family]];
    rules[family] = sideRules(
      family,
      [...new Set(kept)].sort(),
      sources[family],
      cidrs.length > 0,
      policy.randomFully,
    );
  }
  return { rules, notes: [...notes] };
}

function fits({ namespace, podLabels }: EgressRule, { meta }: Pod): boolean {
  return (
    (namespace === undefined || namespace === meta.namespace) &&
    Object.entries(podLabels).every(([name, value]) => meta.labels[name] === value)
  );
}

/** `masquerades`: without a range of this family only Pods with a fixed source are touched. */
function sideRules(
  family: IpFamily,
  kept: readonly string[],
  sources: ReadonlyMap<string, string>,
  masquerades: boolean,
  randomFully: boolean,
): SideRules {
  const ip = family === "IPv4" ? "ip" : "ip6";
  const type = family === "IPv4" ? "ipv4_addr" : "ipv6_addr";
  const pairs = [...sources].sort(([a], [b]) => (a < b ? -1 : 1));
  const [nftRandom, iptablesRandom] = randomFully ? [" fully-random", " --random-fully"] : ["", ""];
  const elements = (list: readonly string[]): string =>
    list.length === 0 ? "" : ` elements = { ${list.join(", ")} };`;
  const body = [
    `\tset non-masquerade { type ${type}; flags interval; auto-merge;${elements(kept)} }`,
    `\tmap sources { type ${type} : ${type};${elements(pairs.map(([pod, source]) => `${pod} : ${source}`))} }`,
  ];
  const baseChains = [
    "\tchain postrouting {",
    "\t\ttype nat hook postrouting priority 101; policy accept;",
    "\t\tfib daddr type local return",
    `\t\t${ip} daddr @non-masquerade return`,
    `\t\tsnat ${ip} to ${ip} saddr map @sources${nftRandom}`,
    ...(masquerades ? [`\t\tmasquerade${nftRandom}`] : []),
    "\t}",
  ];
  const bits = family === "IPv4" ? 32 : 128;
  return {
    nftBody: `${body.join("\n")}\n`,
    nftBaseChains: `${baseChains.join("\n")}\n`,
    chains: [
      {
        name: sideChain("snat"),
        rules: [
          "-m addrtype --dst-type LOCAL -j RETURN",
          ...kept.map((cidr) => `-d ${cidr} -j RETURN`),
          ...pairs.map(([pod, source]) => `-s ${pod}/${bits} -j SNAT --to-source ${source}${iptablesRandom}`),
          ...(masquerades ? [`-j MASQUERADE${iptablesRandom}`] : []),
        ],
      },
    ],
    jumps: [
      {
        builtin: "POSTROUTING",
        rule: `-m comment --comment "fairlead outbound policy" -j ${sideChain("snat")}`,
      },
    ],
  };
}

function familyOf(address: string): IpFamily {
  return address.includes(":") ? "IPv6" : "IPv4";
}
