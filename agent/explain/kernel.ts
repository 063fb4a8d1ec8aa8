/**
 * What the kernel holds for a destination, read as narrowly as each backend allows.
 *
 * In: backend, destination, and the chains that the compiler says a packet meets. Out: lines as the kernel's programs print
 * them, and the endpoints that they name.
 */

import { hostPort } from "../../cluster/ip-address.ts";
import type { NatTraceRule } from "../../wasm-nat/nat.ts";
import type { BackendName } from "../backends/backend.ts";
import { NFT_TABLE } from "../backends/read-back.ts";
import type { Destination } from "../destinations.ts";
import { runCommand } from "../kernel/command.ts";
import { readServerCounts } from "../kernel/ipvs-counters.ts";
import type { NftTable } from "../kernel/nft.ts";
import { getElements } from "../kernel/nft-elements.ts";
import {
  COUNTED_MASK,
  FROM_OUTSIDE_LOCAL,
  LOCAL_SET,
  masked,
  parseNumber,
  printNumber,
  SERVICE_MASK,
} from "../kernel/nft-numbers.ts";
import type { KernelOptions } from "../kernel/transactions.ts";

export interface KernelHoldings {
  /** Elements or rules, in the order in which a packet meets them. */
  readonly lines: readonly string[];
  /** `10.180.0.1:8080`, sorted; `undefined` where the backend's lines do not tell. */
  readonly endpoints?: readonly string[];
  /**
   * New connections until now; absent where no rule is about it. nftables counts those to all addresses of a Service port
   * together, and those through its node port.
   */
  readonly connections?: number;
}

export interface KernelQuestion {
  readonly backend: BackendName;
  readonly destination: Destination;
  /** At an address of the node; then the port may be a node port. */
  readonly isNodeAddress: boolean;
  readonly rules: readonly NatTraceRule[];
}

const TIMEOUT_MS = 30_000;
/** Of `wasm-nat/src/nftables/rules.rs`. */
const UNDEFINED_PORT = "undefined-port";

export function askKernel(question: KernelQuestion, options: KernelOptions = {}): Promise<KernelHoldings> {
  switch (question.backend) {
    case "nftables":
      return askNft(question, options);
    case "iptables":
      return askIptables(question, options);
    case "ipvs":
      return askIpvs(question, options);
    default:
      return question.backend satisfies never;
  }
}

async function askNft(
  { destination: { address, port, protocol }, isNodeAddress, rules }: KernelQuestion,
  options: KernelOptions,
): Promise<KernelHoldings> {
  const table: NftTable = { family: address.includes(":") ? "ip6" : "ip", name: NFT_TABLE };
  const word = protocol.toLowerCase();
  const entry =
    (await getElements(table, "service-ips", [`${address} . ${word} . ${port}`], options))[0] ??
    (isNodeAddress
      ? (await getElements(table, "service-nodeports", [`${word} . ${port}`], options))[0]
      : undefined);
  if (entry === undefined) {
    // Its other ports are refused by the address alone.
    const addresses = rules.some(({ chain }) => chain === UNDEFINED_PORT)
      ? await getElements(table, "cluster-ips", [address], options)
      : [];
    return { lines: addresses.map((element) => `@cluster-ips ${element}`), endpoints: [] };
  }
  const value = parseNumber(mappedTo(entry));
  const counter = (
    await getElements(table, "connections", [printNumber(masked(value, COUNTED_MASK))], options)
  )[0];
  const connections = Number(/counter packets (\d+)/.exec(counter ?? "")?.[1] ?? 0);
  const cluster = masked(value, SERVICE_MASK);
  // The Local path of traffic from outside keeps a set of its own.
  const sets =
    masked(value, FROM_OUTSIDE_LOCAL) === 0
      ? [cluster | masked(value, LOCAL_SET)]
      : [cluster, cluster | LOCAL_SET];
  const lines = counter === undefined ? [entry] : [entry, counter];
  const endpoints = new Set<string>();
  for (const set of sets) {
    for (const answer of await getElements(table, "services", [printNumber(set)], options)) {
      lines.push(answer);
      const slots = slotsOf(answer);
      const keys = Array.from({ length: slots }, (_, slot) => `${printNumber(set)} . ${slot}`);
      const targets = answer.includes("affinity-")
        ? await affinityTargets(table, word, set, keys, options)
        : await getElements(table, `${word}-endpoints`, keys, options);
      lines.push(...targets);
      for (const target of targets) {
        const [host = "", hostPortText = ""] = mappedTo(target).split(" . ");
        if (hostPortText !== "") endpoints.add(hostPort(host, Number(hostPortText)));
      }
    }
  }
  return { lines, endpoints: [...endpoints].sort(), connections };
}

async function affinityTargets(
  table: NftTable,
  protocol: string,
  set: number,
  keys: readonly string[],
  options: KernelOptions,
): Promise<readonly string[]> {
  const slots = await getElements(table, "affinity-slots", keys, options);
  const numbers = new Set(slots.map((slot) => parseNumber(mappedTo(slot))));
  const local = set & LOCAL_SET;
  return getElements(
    table,
    `${protocol}-affinity-endpoints`,
    [...numbers].map((number) => printNumber(number | local)),
    options,
  );
}

/** `8000:4002` of `172.30.0.41 . 6 . 80 comment "shop/web/tcp" : 8000:4002`. */
function mappedTo(element: string): string {
  return element.slice(element.lastIndexOf(" : ") + 3);
}

/** `goto lb-tcp-3`, `goto affinity-10800s-lb-udp-2`, `goto round-robin-2-P4ZYZVCF-shop/web/tcp`; a refusal has none. */
function slotsOf(answer: string): number {
  const chain = /goto (\S+)/.exec(answer)?.[1] ?? "";
  const match = /(?:^|-)(?:round-robin-(\d+)-|(?:lb|source-hash|maglev)-(?:tcp|udp|sctp)-(\d+)$)/.exec(chain);
  return Number(match?.[1] ?? match?.[2] ?? 0);
}

/** The chains that a packet meets, with counters: whole, and of those that lead on what is about this destination. */
async function askIptables(question: KernelQuestion, options: KernelOptions): Promise<KernelHoldings> {
  const { rules } = question;
  const program = question.destination.address.includes(":") ? "ip6tables-save" : "iptables-save";
  const lines: string[] = [];
  const endpoints = new Set<string>();
  /** Packets that rules about this destination have seen, by table. */
  const counts = new Map<string, number>();
  /** What is to be refused in the filter table may still be translated before it comes there. */
  const met = new Map([["nat", new Set(["KUBE-SERVICES", "KUBE-NODEPORTS"])]]);
  for (const { table, chain } of rules) met.set(table, (met.get(table) ?? new Set()).add(chain));
  for (const [table, chains] of met) {
    const { code, output } = await runCommand(program, ["-c", "-t", table], {
      timeoutMs: TIMEOUT_MS,
      ...options,
    });
    if (code !== 0) continue;
    const held = new Map<string, string[]>();
    for (const line of output.split("\n")) {
      const chain = / -A (\S+) /.exec(line)?.[1];
      if (chain === undefined) continue;
      const before = held.get(chain);
      if (before === undefined) held.set(chain, [line]);
      else before.push(line);
    }
    // From the last chain that the packet meets there are jumps to those of single endpoints. Where it is to be refused, the
    // kernel may still have a way for it.
    const shouldMeet = new Set(chains);
    for (const chain of chains)
      for (const line of held.get(chain) ?? []) {
        const target = /-j (KUBE-(?:SVC|SVL|EXT|FW|SEP)-\S+)/.exec(line)?.[1];
        if (target === undefined) continue;
        const isWay = isBranch(chain)
          ? isBranch(target) || isAbout(line, question)
          : !shouldMeet.has(chain) || target.startsWith("KUBE-SEP-");
        if (isWay) chains.add(target);
      }
    for (const [chain, ofChain] of held) {
      if (!chains.has(chain)) continue;
      for (const line of ofChain) {
        if (isBranch(chain)) {
          if (!isAbout(line, question)) continue;
          counts.set(table, (counts.get(table) ?? 0) + Number(/^\[(\d+):/.exec(line)?.[1] ?? 0));
        }
        lines.push(`${table} ${line}`);
        const endpoint = /--to-destination (\S+)/.exec(line)?.[1];
        if (endpoint !== undefined) endpoints.add(endpoint);
      }
    }
  }
  // A connection that the filter table refuses was counted by the nat table, unless there was nothing to translate.
  const connections = counts.get("nat") ?? counts.get("filter");
  return { lines, endpoints: [...endpoints].sort(), ...(connections === undefined ? {} : { connections }) };
}

/** Address or node port, and how it goes on: `-d 10.96.0.10/32 -p udp … --dport 53 … -j KUBE-SVC-TCOU7JCQXEZGVUNU`. */
function isAbout(
  line: string,
  { destination: { address, port, protocol }, isNodeAddress }: KernelQuestion,
): boolean {
  const to = / -d (\S+)\/(?:32|128) /.exec(line)?.[1];
  const isHere = to === undefined ? isNodeAddress : to === address;
  return isHere && line.includes(` -p ${protocol.toLowerCase()} `) && line.includes(` --dport ${port} `);
}

/** Chains that lead on by address or port, or that every packet meets, hold other Services' rules too. */
function isBranch(chain: string): boolean {
  return /^(?:PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING|KUBE-POSTROUTING)$|^KUBE-(?:SERVICES|NODEPORTS|EXTERNAL-SERVICES|FORWARD|(?:SVC|EXT)-(?:[0-9a-f.:]+\/\d|tcp|udp|sctp))/.test(
    chain,
  );
}

async function askIpvs(
  { destination: { address, port, protocol } }: KernelQuestion,
  options: KernelOptions,
): Promise<KernelHoldings> {
  const flag = { TCP: "-t", UDP: "-u", SCTP: "--sctp-service" }[protocol];
  const { code, output } = await runCommand("ipvsadm", ["-L", "-n", flag, hostPort(address, port)], {
    timeoutMs: TIMEOUT_MS,
    ...options,
  });
  if (code !== 0) return { lines: [], endpoints: [] };
  const lines = output
    .split("\n")
    .filter((line) => /^(?:TCP|UDP|SCTP| {2}->)/.test(line) && !line.includes("RemoteAddress"));
  // From pods it may be reached by way of a mark, which is a virtual server of its own.
  const own = (await readServerCounts(options)).filter(({ destinations }) =>
    destinations.some(
      (one) => one.protocol === protocol.toLowerCase() && one.address === address && one.port === port,
    ),
  );
  const connections = own.reduce((sum, one) => sum + one.connections, 0);
  return { lines, endpoints: newConnectionsGoTo(lines), connections };
}

/** The destinations of a virtual server whose weight is not 0, sorted; `  -> 10.180.0.1:8080  Masq  1  2  0`. */
export function newConnectionsGoTo(lines: readonly string[]): readonly string[] {
  return lines.flatMap((line) => /^ {2}-> (\S+)\s+\S+\s+[1-9]/.exec(line)?.[1] ?? []).sort();
}
