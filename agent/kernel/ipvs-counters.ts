/**
 * What IPVS and the rules around it have counted: connections by virtual server, refusals by reason.
 *
 * In: families. Out: numbers. Connections that find a virtual server without an endpoint are refused by IPVS itself, which
 * does not count them. Reading costs what the servers cost; for scrapes and people, never for a change.
 */

import type { IpFamily } from "../../cluster/model.ts";
import { type IptablesOptions, saveTables } from "./iptables.ts";
import { listServers, listSets } from "./ipvs.ts";

export interface VirtualServer {
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly address: string;
  readonly port: number;
}

export interface VirtualServerCount {
  readonly family: IpFamily;
  /** Who is reached through it; one that answers to a mark has all destinations that get the mark, in no order. */
  readonly destinations: readonly [VirtualServer, ...VirtualServer[]];
  readonly connections: number;
}

export interface IpvsRuleCounts {
  /** By reason, in the words of the nftables backend. */
  readonly refusals: ReadonlyMap<string, number>;
  readonly masqueraded: number;
  /** Packets that the connection table calls invalid. */
  readonly invalid: number;
}

/** Virtual servers that have counted anything. Rejects with `KernelError` or `CommandError`. */
export async function readServerCounts(
  options: IptablesOptions = {},
): Promise<readonly VirtualServerCount[]> {
  const [servers, marks] = await Promise.all([listServers(options, "--stats", "--exact"), listSets(options)]);
  return parseServerCounts(servers, marks);
}

/** `TCP  [fd00::a]:80  5 30 …` and `FWM  2701131776 IPv6  5 30 …`, with `add KUBE-6-IPVS-IN-CLUSTER fd00::a,tcp:80 skbmark 0xa1000000`. */
export function parseServerCounts(servers: string, sets: string): readonly VirtualServerCount[] {
  const marked = new Map<string, [VirtualServer, ...VirtualServer[]]>();
  for (const [, six, address = "", protocol = "", port, mark] of sets.matchAll(
    /^add KUBE-(6-)?IPVS-IN-CLUSTER ([^,\s]+),(tcp|udp|sctp):(\d+) skbmark (0x[0-9a-f]+)/gm,
  )) {
    const key = `${six === undefined ? "IPv4" : "IPv6"} ${Number(mark)}`;
    const server = { protocol: protocol as VirtualServer["protocol"], address, port: Number(port) };
    const known = marked.get(key);
    if (known === undefined) marked.set(key, [server]);
    else known.push(server);
  }
  const counts: VirtualServerCount[] = [];
  for (const [, kind = "", at = "", six, count] of servers.matchAll(
    /^(TCP|UDP|SCTP|FWM) +(\S+)( IPv6)? +(\d+)\b/gm,
  )) {
    const connections = Number(count);
    if (connections === 0) continue;
    if (kind === "FWM") {
      const family: IpFamily = six === undefined ? "IPv4" : "IPv6";
      const destinations = marked.get(`${family} ${at}`);
      if (destinations !== undefined) counts.push({ family, destinations, connections });
      continue;
    }
    const colon = at.lastIndexOf(":");
    const address = at.slice(0, colon).replace(/^\[|\]$/g, "");
    const port = Number(at.slice(colon + 1));
    const family: IpFamily = address.includes(":") ? "IPv6" : "IPv4";
    const protocol = kind.toLowerCase() as VirtualServer["protocol"];
    counts.push({ family, destinations: [{ protocol, address, port }], connections });
  }
  return counts;
}

/** Rejects with `KernelError` or `CommandError`. */
export async function readIpvsRuleCounts(
  family: IpFamily,
  options: IptablesOptions = {},
): Promise<IpvsRuleCounts> {
  return parseIpvsRuleCounts(await saveTables({ family }, { ...options, counters: true }));
}

/** Chain and target of a rule that refuses, and the reason. */
const REASONS: ReadonlyMap<string, string> = new Map([
  ["KUBE-SOURCE-RANGES-FIREWALL DROP", "source-not-allowed"],
  ["KUBE-PROXY-FIREWALL DROP", "no-local-endpoints"],
  ["KUBE-IPVS-FILTER REJECT", "undefined-port"],
]);

/** The text of `iptables-save -c`, every table. */
export function parseIpvsRuleCounts(saved: string): IpvsRuleCounts {
  const refusals = new Map<string, number>();
  let [masqueraded, invalid] = [0, 0];
  for (const [, packets, chain, target] of saved.matchAll(/^\[(\d+):\d+\] -A (KUBE-\S+) .*-j (\S+)/gm)) {
    const reason = REASONS.get(`${chain} ${target}`);
    if (reason !== undefined) refusals.set(reason, (refusals.get(reason) ?? 0) + Number(packets));
    if (chain === "KUBE-POSTROUTING" && target === "MASQUERADE") masqueraded += Number(packets);
    if (chain === "KUBE-FORWARD" && target === "DROP") invalid += Number(packets);
  }
  return { refusals, masqueraded, invalid };
}
