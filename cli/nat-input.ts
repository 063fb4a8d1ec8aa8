/**
 * What `fairlead agent`, `nat render` and `nat trace` have in common: their flags, and the values behind them.
 *
 * In: options as commander gives them. Out: `NatSettings`, addresses of packets; a `UsageError` for what no option takes.
 */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { BackendName } from "../agent/backends/backend.ts";
import { DEFAULT_NODE_PORT_ADDRESSES, type NatSettings, type NodePortAddresses } from "../agent/settings.ts";
import { parseIpAddress, parseIpRange } from "../cluster/ip-address.ts";
import type { ObjectName } from "../cluster/model.ts";

export interface NatFlags {
  readonly file?: readonly string[];
  readonly node: string;
  readonly backend: BackendName;
  readonly clusterCidr: readonly string[];
  readonly masqueradeAll?: true;
  readonly nodeportAddresses?: readonly NodePortAddresses[];
  readonly tcpServices?: ObjectName;
  readonly udpServices?: ObjectName;
}

const BACKENDS = ["nftables", "iptables", "ipvs"] as const satisfies readonly BackendName[];

export function addNatOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--node <name>", "the name of this node, as the cluster knows it")
        .env("FAIRLEAD_NODE")
        .argParser(nodeName)
        .makeOptionMandatory(),
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
      new Option("--masquerade-all", "masquerade all traffic to ClusterIPs").env("FAIRLEAD_MASQUERADE_ALL"),
    )
    .addOption(
      new Option(
        "--nodeport-addresses <which>",
        "which addresses of the node have node ports: primary, all, or ranges, by commas (default: primary for nftables, all for iptables and ipvs)",
      )
        .argParser(nodePortAddressList)
        .env("FAIRLEAD_NODEPORT_ADDRESSES"),
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

export function natSettings(flags: NatFlags): NatSettings {
  const { node, backend, clusterCidr, masqueradeAll = false, tcpServices, udpServices } = flags;
  return {
    node,
    backend,
    clusterCidrs: clusterCidr,
    masqueradeAll,
    nodePortAddresses: flags.nodeportAddresses ?? [DEFAULT_NODE_PORT_ADDRESSES[backend]],
    tcpServices,
    udpServices,
  };
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

function nodeName(text: string): string {
  if (!/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(text))
    throw new InvalidArgumentError(`${JSON.stringify(text)} is no name of a node.`);
  return text;
}

function rangeList(text: string): readonly string[] {
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
  const found = parts.map((part) => (part === "primary" || part === "all" ? part : { cidr: range(part) }));
  return found;
}

function objectName(text: string): ObjectName {
  const [namespace, name, ...rest] = text.split("/");
  if (!namespace || !name || rest.length > 0)
    throw new InvalidArgumentError(`${JSON.stringify(text)} is not namespace/name.`);
  return `${namespace}/${name}`;
}
