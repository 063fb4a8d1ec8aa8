/**
 * `hostPort` of Pods as rules, as the CNI plug-in `portmap` has them: a port of every address of the node (or of `hostIP`)
 * leads to the Pod, which sees the client's address.
 *
 * In: the Pods of this node. Out: rules by family, what the sweeper of UDP flows has to know of them, and sentences about
 * ports that two Pods want; the older Pod has it. Not for Pods in the host's network, whose ports are the node's already,
 * nor for 127.0.0.1. In nftables they stand behind the node ports of Services (priority -99), which so win where both have
 * one number.
 */

import { hostPort, parseIpAddress } from "../../cluster/ip-address.ts";
import type { IpFamily, Pod, Protocol } from "../../cluster/model.ts";
import { EVERY_ADDRESS, type UdpPort } from "../conntrack.ts";
import { hasOwnAddresses } from "../pods-of-node.ts";
import type { SideRulesByFamily } from "../side-rules/keeper.ts";
import { type SideRules, sideChain } from "../side-rules/side-rules.ts";

export interface HostPortRules {
  readonly rules: SideRulesByFamily;
  readonly notes: readonly string[];
  /** Those of them that are of UDP: nobody but the Pod may answer. */
  readonly udpPorts: readonly UdpPort[];
}

interface HostPort {
  /** Absent: every address of the node. */
  readonly address: string | undefined;
  readonly protocol: Protocol;
  readonly port: number;
  readonly pod: string;
  readonly targetPort: number;
}

const FAMILIES = ["IPv4", "IPv6"] as const satisfies readonly IpFamily[];
const PROTOCOLS = ["TCP", "UDP", "SCTP"] as const satisfies readonly Protocol[];

export function hostPortRules(pods: Iterable<Pod>, node: string): HostPortRules {
  const notes: string[] = [];
  const rules: Partial<Record<IpFamily, SideRules | undefined>> = {};
  const udpPorts: UdpPort[] = [];
  const candidates = [...pods].filter((pod) => hasOwnAddresses(pod, node) && !pod.terminating).sort(byAge);
  for (const family of FAMILIES) {
    const ports = new Map<string, HostPort & { readonly owner: string }>();
    for (const pod of candidates) {
      const owner = `${pod.meta.namespace}/${pod.meta.name}`;
      for (const one of hostPortsOf(pod, family)) {
        const key = `${one.address ?? "*"} ${one.protocol} ${one.port}`;
        const before = ports.get(key);
        if (before === undefined) ports.set(key, { ...one, owner });
        else if (before.owner !== owner)
          notes.push(
            `Pod ${owner}: hostPort ${one.port}/${one.protocol} belongs to the older Pod ${before.owner}`,
          );
      }
    }
    if (ports.size > 0) rules[family] = sideRules(family, [...ports.values()]);
    for (const { address = EVERY_ADDRESS[family], protocol, port, pod, targetPort } of ports.values()) {
      if (protocol !== "UDP") continue;
      udpPorts.push({
        destinations: [hostPort(address, port)],
        endpoints: new Set([hostPort(pod, targetPort)]),
      });
    }
  }
  return { rules, notes: [...new Set(notes)], udpPorts };
}

/** Without a time it counts as younger than any that has one. */
function byAge(a: Pod, b: Pod): number {
  const key = ({ meta }: Pod): string => `${meta.creationTimestamp ?? "~"} ${meta.namespace}/${meta.name}`;
  return key(a) < key(b) ? -1 : 1;
}

function hostPortsOf(pod: Pod, family: IpFamily): readonly HostPort[] {
  const podIp = pod.podIPs.find((address) => familyOf(address) === family);
  if (podIp === undefined) return [];
  return pod.containerPorts.flatMap(({ hostPort, hostIP, containerPort, protocol }) => {
    if (hostPort === undefined || hostPort === 0) return [];
    const address = hostIP === undefined ? undefined : parseIpAddress(hostIP)?.text;
    const isEverywhere = address === undefined || address === "0.0.0.0" || address === "::";
    if (!isEverywhere && familyOf(address) !== family) return [];
    return [
      {
        address: isEverywhere ? undefined : address,
        protocol,
        port: hostPort,
        pod: podIp,
        targetPort: containerPort,
      },
    ];
  });
}

function sideRules(family: IpFamily, ports: readonly HostPort[]): SideRules {
  const ip = family === "IPv4" ? "ip" : "ip6";
  const type = family === "IPv4" ? "ipv4_addr" : "ipv6_addr";
  const loopback = family === "IPv4" ? "127.0.0.0/8" : "::1";
  const sorted = [...ports].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  const podIps = [...new Set(sorted.map(({ pod }) => pod))];
  const used = PROTOCOLS.filter((protocol) => sorted.some((one) => one.protocol === protocol));
  const maps = used.flatMap((protocol) => {
    const word = protocol.toLowerCase();
    const own = sorted.filter((one) => one.protocol === protocol);
    const anywhere = own.filter(({ address }) => address === undefined);
    const single = own.filter(({ address }) => address !== undefined);
    return [
      ...map(
        `${word}-ports`,
        `${word} dport`,
        word,
        anywhere.map((one) => [String(one.port), one]),
      ),
      ...map(
        `${word}-addresses`,
        `${ip} daddr . ${word} dport`,
        word,
        single.map((one) => [`${one.address} . ${one.port}`, one]),
      ),
    ];
  });
  function map(
    name: string,
    key: string,
    word: string,
    elements: readonly (readonly [string, HostPort])[],
  ): readonly string[] {
    const list = elements.map(([text, { pod, targetPort }]) => `${text} : ${pod} . ${targetPort}`).join(", ");
    return [
      `\tmap ${name} { typeof ${key} : ${ip} daddr . ${word} dport;${list === "" ? "" : ` elements = { ${list} };`} }`,
    ];
  }
  const body = [
    ...maps,
    `\tset hairpin { type ${type} . ${type}; elements = { ${podIps.map((pod) => `${pod} . ${pod}`).join(", ")} }; }`,
    "\tchain host-ports {",
    "\t\tfib daddr type != local return",
    `\t\t${ip} daddr ${loopback} return`,
    ...used.flatMap((protocol) => {
      const word = protocol.toLowerCase();
      return [
        `\t\tmeta l4proto ${word} dnat ${ip} to ${ip} daddr . ${word} dport map @${word}-addresses`,
        `\t\tmeta l4proto ${word} dnat ${ip} to ${word} dport map @${word}-ports`,
      ];
    }),
    "\t}",
  ];
  const baseChains = [
    "\tchain prerouting { type nat hook prerouting priority -99; policy accept; jump host-ports; }",
    "\tchain output { type nat hook output priority -99; policy accept; jump host-ports; }",
    "\tchain postrouting {",
    "\t\ttype nat hook postrouting priority 101; policy accept;",
    `\t\tct status dnat ${ip} saddr . ${ip} daddr @hairpin masquerade fully-random`,
    "\t}",
  ];
  const bits = family === "IPv4" ? 32 : 128;
  return {
    nftBody: `${body.join("\n")}\n`,
    nftBaseChains: `${baseChains.join("\n")}\n`,
    chains: [
      {
        name: sideChain("hostports"),
        rules: [
          `-d ${loopback === "::1" ? "::1/128" : loopback} -j RETURN`,
          ...[...sorted]
            // A single address goes before all of them.
            .sort((a, b) => Number(a.address === undefined) - Number(b.address === undefined))
            .map(({ address, protocol, port, pod, targetPort }) => {
              const word = protocol.toLowerCase();
              const destination = address === undefined ? "" : `-d ${address}/${bits} `;
              const target = hostPort(pod, targetPort);
              return `${destination}-p ${word} -m ${word} --dport ${port} -j DNAT --to-destination ${target}`;
            }),
        ],
      },
      {
        name: sideChain("hostports", "-MASQ"),
        rules: podIps.map(
          (pod) =>
            `-s ${pod}/${bits} -d ${pod}/${bits} -m conntrack --ctstate DNAT -j MASQUERADE --random-fully`,
        ),
      },
    ],
    jumps: [
      ...["PREROUTING", "OUTPUT"].map((builtin) => ({
        builtin,
        rule: `-m addrtype --dst-type LOCAL -m comment --comment "fairlead host ports" -j ${sideChain("hostports")}`,
      })),
      {
        builtin: "POSTROUTING",
        rule: `-m comment --comment "fairlead host ports" -j ${sideChain("hostports", "-MASQ")}`,
      },
    ],
  };
}

function keyOf({ protocol, address = "", port }: HostPort): string {
  return `${protocol} ${address} ${String(port).padStart(5, "0")}`;
}

function familyOf(address: string): IpFamily {
  return address.includes(":") ? "IPv6" : "IPv4";
}
