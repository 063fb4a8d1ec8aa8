/**
 * What the nftables rules have counted: connections by Service port, refusals by reason.
 *
 * In: tables. Out: numbers. The rules see the first packet of each connection, so a packet is a connection. Listing a map
 * costs what the map costs, chains without elements cost milliseconds; for scrapes and people, never for a change.
 */

import { runCommand } from "./command.ts";
import { type NftOptions, type NftTable, nftError } from "./nft.ts";

export interface ServiceCount {
  /** `namespace/name/protocol[/port name]`, the comment of the element. */
  readonly label: string;
  /** `172.30.0.41 . 17 . 53`, `6 . 30080`: protocols are numbers. */
  readonly key: string;
  readonly connections: number;
}

/** Maps whose elements count. */
export const COUNTING_MAPS = ["service-ips", "service-nodeports"] as const;

const TIMEOUT_MS = 60_000;

/** Elements that have counted anything; `all` for the others too. */
export async function readServiceCounts(
  { family, name }: NftTable,
  options: NftOptions & { readonly all?: boolean } = {},
): Promise<readonly ServiceCount[]> {
  const counts: ServiceCount[] = [];
  for (const map of COUNTING_MAPS) {
    let rest = "";
    const result = await runCommand("nft", ["-nn", "list", "map", family, name, map], {
      timeoutMs: TIMEOUT_MS,
      ...options,
      onOutput: (piece) => {
        const lines = (rest + piece.toString("latin1")).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          const count = parseElement(line);
          if (count !== undefined && (count.connections > 0 || options.all === true)) counts.push(count);
        }
      },
    });
    if (result.code === 0) continue;
    if (result.errors.includes("No such file or directory")) return [];
    throw nftError(result, []);
  }
  return counts;
}

/** `elements = { 172.30.0.41 . 17 . 53 counter packets 3 bytes 180 comment "default/web/udp/dns" : 8000:6000,` */
export function parseElement(line: string): ServiceCount | undefined {
  const match =
    /^\s*(?:elements = \{ )?(\S+(?: \. \d+){1,2}) counter packets (\d+) bytes \d+(?: comment "([^"]*)")? :/.exec(
      line,
    );
  if (match === null) return undefined;
  const [, key = "", packets = "", label = ""] = match;
  return { key, label, connections: Number(packets) };
}

export interface ChainCount {
  readonly chain: string;
  /** Of the chain's only counter; of several the sum. */
  readonly packets: number;
}

/** Counters of rules, by chain. */
export async function readChainCounts(
  { family, name }: NftTable,
  options: NftOptions = {},
): Promise<readonly ChainCount[]> {
  const result = await runCommand("nft", ["-t", "-nn", "list", "ruleset", family], {
    timeoutMs: TIMEOUT_MS,
    ...options,
  });
  if (result.code !== 0) throw nftError(result, []);
  const counts = new Map<string, number>();
  let isOurs = false;
  let chain = "";
  for (const line of result.output.split("\n")) {
    if (line.startsWith("table ")) isOurs = line === `table ${family} ${name} {`;
    if (!isOurs) continue;
    chain = /^\tchain (\S+) \{/.exec(line)?.[1] ?? chain;
    const packets = /\bcounter packets (\d+) bytes/.exec(line)?.[1];
    if (packets !== undefined) counts.set(chain, (counts.get(chain) ?? 0) + Number(packets));
  }
  return [...counts].map(([name, packets]) => ({ chain: name, packets }));
}
