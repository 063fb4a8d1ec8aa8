/**
 * What `fairlead agent`, `nat render` and `nat trace` have in common: their flags, and the values behind them.
 *
 * In: options as commander gives them. Out: `NatSettings`, addresses of packets; a `UsageError` for what no option takes.
 */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { BackendName } from "../agent/backends/backend.ts";
import {
  DEFAULT_MASQUERADE_BIT,
  DEFAULT_NODE_PORT_ADDRESSES,
  type NatSettings,
  type NodePortAddresses,
} from "../agent/settings.ts";
import { parseIpAddress, parseIpRange } from "../cluster/ip-address.ts";
import type { ObjectName } from "../cluster/model.ts";
import { UsageError } from "./failure.ts";

export interface NatFlags {
  readonly file?: readonly string[];
  readonly node?: string;
  readonly backend: BackendName;
  readonly clusterCidr: readonly string[];
  readonly nodePodCidrs?: true;
  readonly podInterface?: string;
  readonly podInterfacePrefix?: string;
  readonly masqueradeAll?: true;
  readonly masqueradeBit: number;
  /** `--no-conntrack-tcp-be-liberal` makes it false. */
  readonly conntrackTcpBeLiberal: boolean;
  readonly serviceCidr: readonly string[];
  readonly nodeportAddresses?: readonly NodePortAddresses[];
  readonly ipvsScheduler?: string;
  readonly ipvsExcludeCidrs: readonly string[];
  readonly ipvsStrictArp?: true;
  readonly tcpServices?: ObjectName;
  readonly udpServices?: ObjectName;
}

const BACKENDS = ["nftables", "iptables", "ipvs"] as const satisfies readonly BackendName[];

/** Linux has them all; which of them a kernel was built with shows when a Service asks for one. */
const IPVS_SCHEDULERS = [
  ...["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh"],
  ...["dh", "sed", "nq", "mh", "fo", "ovf", "twos"],
] as const;

export function addNatOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--node <name>", "the name of this node, as the cluster knows it")
        .env("FAIRLEAD_NODE")
        .argParser(nodeName),
    )
    .addOption(
      new Option("--backend <backend>", "what the rules are made of")
        .choices(BACKENDS)
        .default("nftables")
        .env("FAIRLEAD_BACKEND"),
    )
    .addOption(
      new Option(
        "--cluster-cidr <cidrs>",
        "where Pods have their addresses, by commas: traffic to ClusterIPs from elsewhere is masqueraded (default: none is)",
      )
        .argParser(rangeList)
        .default([], "none")
        .env("FAIRLEAD_CLUSTER_CIDR"),
    )
    .addOption(
      new Option(
        "--node-pod-cidrs",
        "in place of --cluster-cidr: traffic from the Pod ranges of this node (podCIDRs of its Node object) is that of Pods",
      ).env("FAIRLEAD_NODE_POD_CIDRS"),
    )
    .addOption(
      new Option(
        "--pod-interface <name>",
        "in place of --cluster-cidr: traffic that comes in here is that of Pods",
      )
        .argParser(interfaceName)
        .env("FAIRLEAD_POD_INTERFACE"),
    )
    .addOption(
      new Option(
        "--pod-interface-prefix <prefix>",
        "in place of --cluster-cidr: traffic that comes in by interfaces so named is that of Pods",
      )
        .argParser(interfaceName)
        .env("FAIRLEAD_POD_INTERFACE_PREFIX"),
    )
    .addOption(
      new Option("--masquerade-all", "masquerade all traffic to ClusterIPs").env("FAIRLEAD_MASQUERADE_ALL"),
    )
    .addOption(
      new Option("--masquerade-bit <bit>", "bit of the packet mark that asks for masquerading")
        .argParser(markBit)
        .default(DEFAULT_MASQUERADE_BIT)
        .env("FAIRLEAD_MASQUERADE_BIT"),
    )
    .addOption(
      new Option(
        "--no-conntrack-tcp-be-liberal",
        "TCP packets outside of the window are invalid; the rules of iptables and ipvs drop them then",
      ).env("FAIRLEAD_CONNTRACK_TCP_BE_LIBERAL"),
    )
    .addOption(
      new Option(
        "--service-cidr <cidrs>",
        "where ClusterIPs come from, by commas: packets to addresses there that no Service has are dropped (nftables)",
      )
        .argParser(rangeList)
        .default([], "none")
        .env("FAIRLEAD_SERVICE_CIDR"),
    )
    .addOption(
      new Option(
        "--nodeport-addresses <which>",
        "which addresses of the node have node ports: primary, localhost (127.0.0.1; not with ipvs), all, or ranges, by commas (default: primary for nftables, all for iptables and ipvs)",
      )
        .argParser(nodePortAddressList)
        .env("FAIRLEAD_NODEPORT_ADDRESSES"),
    )
    .addOption(
      new Option("--ipvs-scheduler <name>", "how IPVS chooses for Services that do not say it")
        .choices(IPVS_SCHEDULERS)
        .env("FAIRLEAD_IPVS_SCHEDULER"),
    )
    .addOption(
      new Option(
        "--ipvs-exclude-cidrs <cidrs>",
        "virtual servers that are somebody else's, by commas: IPVS leaves them alone",
      )
        .argParser(rangeList)
        .default([], "none")
        .env("FAIRLEAD_IPVS_EXCLUDE_CIDRS"),
    )
    .addOption(
      new Option("--ipvs-strict-arp", "answer ARP for no address of IPVS' link (MetalLB needs it)").env(
        "FAIRLEAD_IPVS_STRICT_ARP",
      ),
    )
    .addOption(
      new Option(
        "--tcp-services <namespace/name>",
        "ConfigMap of exposed TCP ports, in ingress-nginx's format",
      )
        .argParser(objectName)
        .env("FAIRLEAD_TCP_SERVICES"),
    )
    .addOption(
      new Option(
        "--udp-services <namespace/name>",
        "ConfigMap of exposed UDP ports, in ingress-nginx's format",
      )
        .argParser(objectName)
        .env("FAIRLEAD_UDP_SERVICES"),
    );
}

/** Throws a `UsageError` for flags that do not go together, and without a node. */
export function natSettings(flags: NatFlags): NatSettings {
  const {
    node,
    backend,
    masqueradeAll = false,
    masqueradeBit,
    serviceCidr,
    tcpServices,
    udpServices,
  } = flags;
  if (node === undefined)
    throw new UsageError(
      "--node (or FAIRLEAD_NODE) is missing: the name of this node, as the cluster knows it.",
    );
  return {
    node,
    backend,
    localDetector: localDetector(flags),
    masqueradeAll,
    dropInvalid: !flags.conntrackTcpBeLiberal,
    masqueradeBit,
    serviceCidrs: serviceCidr,
    nodePortAddresses: flags.nodeportAddresses ?? [DEFAULT_NODE_PORT_ADDRESSES[backend]],
    ...(backend === "ipvs" && {
      ipvs: {
        scheduler: flags.ipvsScheduler,
        excludedCidrs: flags.ipvsExcludeCidrs,
        strictArp: flags.ipvsStrictArp ?? false,
      },
    }),
    tcpServices,
    udpServices,
  };
}

function localDetector(flags: NatFlags): NatSettings["localDetector"] {
  const { clusterCidr, nodePodCidrs, podInterface, podInterfacePrefix } = flags;
  const given = [clusterCidr[0], nodePodCidrs, podInterface, podInterfacePrefix];
  if (given.filter((value) => value !== undefined).length > 1)
    throw new UsageError(
      "--cluster-cidr, --node-pod-cidrs, --pod-interface and --pod-interface-prefix exclude each other: each says alone what comes from Pods.",
    );
  if (nodePodCidrs) return { kind: "nodePodCidrs" };
  if (podInterface !== undefined) return { kind: "interface", name: podInterface };
  if (podInterfacePrefix !== undefined) return { kind: "interfacePrefix", prefix: podInterfacePrefix };
  return clusterCidr.length === 0 ? { kind: "none" } : { kind: "cidrs", cidrs: clusterCidr };
}

/** An address of a packet: `10.0.0.2`, `fd00::2`, `[fd00::2]`. */
export function packetAddress(text: string): string {
  const bare = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  const address = parseIpAddress(bare);
  if (address === undefined)
    throw new InvalidArgumentError(`${JSON.stringify(text)} is no IP address such as 10.0.0.2 or fd00::2.`);
  return address.text;
}

export interface Socket {
  readonly address: string;
  readonly port: number;
}

/** `10.96.0.10:53`, `[fd00::a]:53`. */
export function packetSocket(text: string): Socket {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):([0-9]{1,5})$/.exec(text);
  const address = parseIpAddress(match?.[1] ?? match?.[2] ?? "");
  const port = Number(match?.[3] ?? 0);
  // Brackets are for IPv6 and only for it; without them nobody could tell where the port begins.
  const bracketed = match?.[1] !== undefined;
  if (address === undefined || port < 1 || port > 65535 || (bracketed && address.family === "IPv4"))
    throw new InvalidArgumentError(
      `${JSON.stringify(text)} is no address with a port, such as 10.96.0.10:53 or [fd00::a]:53.`,
    );
  return { address: address.text, port };
}

/** `10.0.0.2,fd00::2`. */
export function addressList(text: string): readonly string[] {
  return text.split(",").map((part) => packetAddress(part.trim()));
}

/** As the kernel takes them (IFNAMSIZ), without what a rule's text would need quotes for. */
export function interfaceName(text: string): string {
  if (!/^[A-Za-z0-9_.:@-]{1,15}$/.test(text))
    throw new InvalidArgumentError(`${JSON.stringify(text)} is no name of an interface.`);
  return text;
}

function nodeName(text: string): string {
  if (!/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(text))
    throw new InvalidArgumentError(`${JSON.stringify(text)} is no name of a node.`);
  return text;
}

function markBit(text: string): number {
  const bit = /^[0-9]{1,2}$/.test(text) ? Number(text) : Number.NaN;
  if (!(bit <= 31)) throw new InvalidArgumentError(`${JSON.stringify(text)} is no bit from 0 to 31.`);
  return bit;
}

export function rangeList(text: string): readonly string[] {
  return text
    .split(",")
    .filter((part) => part.trim() !== "")
    .map(range);
}

function range(text: string): string {
  const parsed = parseIpRange(text.trim());
  if (parsed === undefined)
    throw new InvalidArgumentError(
      `${JSON.stringify(text.trim())} is no range such as 10.0.0.0/8 or fd00::/48.`,
    );
  return parsed.text;
}

function nodePortAddressList(text: string): readonly NodePortAddresses[] {
  const parts = text.split(",").map((part) => part.trim());
  return parts.flatMap((part): readonly NodePortAddresses[] => {
    if (part === "primary" || part === "all") return [part];
    if (part === "localhost") return LOOPBACK.map((cidr) => ({ cidr }));
    if (parseIpRange(part) === undefined)
      throw new InvalidArgumentError(
        `${JSON.stringify(part)} is none of primary, all and localhost, and no range such as 10.0.0.0/8.`,
      );
    return [{ cidr: range(part) }];
  });
}

const LOOPBACK = ["127.0.0.0/8", "::1/128"] as const;

function objectName(text: string): ObjectName {
  const [namespace, name, ...rest] = text.split("/");
  if (!namespace || !name || rest.length > 0)
    throw new InvalidArgumentError(`${JSON.stringify(text)} is not namespace/name.`);
  return `${namespace}/${name}`;
}
