/**
 * What the nftables rules have counted: connections by Service port, refusals by reason.
 *
 * In: tables. Out: numbers. The rules see the first packet of each connection, so a packet is a connection. Packets are
 * counted under the Service port's number, which the maps of addresses and node ports put into words. Listing a map costs
 * what the map costs, chains without elements cost milliseconds; for scrapes and people, never for a change.
 */

import { runCommand } from "./command.ts";
import { listStructure, type NftOptions, type NftTable, nftError } from "./nft.ts";
import { COUNTED_MASK, masked, NODE_PORT, parseNumber } from "./nft-numbers.ts";

export interface ServiceCount {
  /** `namespace/name/protocol[/port name]`, the comment of the element. */
  readonly label: string;
  readonly through: "address" | "node port";
  readonly connections: number;
}

const TIMEOUT_MS = 60_000;

/** Service ports that have counted anything. */
export async function readServiceCounts(
  table: NftTable,
  options: NftOptions = {},
): Promise<readonly ServiceCount[]> {
  const counts = new Map<number, number>();
  await forEachElement(table, "set", "connections", options, (line) => {
    for (const { number, packets } of parseCounts(line)) if (packets > 0) counts.set(number, packets);
  });
  const named: ServiceCount[] = [];
  for (const [map, isNodePort] of [
    ["service-ips", false],
    ["service-nodeports", true],
  ] as const) {
    // A listing of all Services for the few that have counted; and none for a node without node ports.
    const wanted = new Map(
      [...counts].filter(([number]) => (masked(number, NODE_PORT) !== 0) === isNodePort),
    );
    if (wanted.size === 0) continue;
    await forEachElement(table, "map", map, options, (line) => {
      for (const { number, label } of parseOwners(line)) {
        const connections = wanted.get(number);
        if (connections === undefined) continue;
        // A Service port has several addresses.
        wanted.delete(number);
        named.push({ label, through: isNodePort ? "node port" : "address", connections });
      }
    });
  }
  return named;
}

/** Each line of a listing; none where there is no such table, map or set. */
async function forEachElement(
  { family, name }: NftTable,
  kind: "map" | "set",
  map: string,
  options: NftOptions,
  take: (line: string) => void,
): Promise<void> {
  const result = await runCommand("nft", ["-nn", "list", kind, family, name, map], {
    timeoutMs: TIMEOUT_MS,
    ...options,
    onLine: take,
  });
  if (result.code !== 0 && !result.errors.includes("No such file or directory")) throw nftError(result, []);
}

/** `elements = { 8000:6000 counter packets 3 bytes 180, 8000:8010 counter …`: several stand in a line. */
export function parseCounts(line: string): readonly { readonly number: number; readonly packets: number }[] {
  const found = line.matchAll(/([0-9a-f]*:[0-9a-f]*) counter packets (\d+) bytes /g);
  return [...found].map(([, number = "", packets]) => ({
    number: parseNumber(number),
    packets: Number(packets),
  }));
}

/**
 * `elements = { 172.30.0.41 . 17 . 53 comment "default/web/udp/dns" : 8000:6000,`: whose they are, and what their connections
 * are counted under.
 */
export function parseOwners(line: string): readonly { readonly number: number; readonly label: string }[] {
  const found = line.matchAll(/ comment "([^"]*)" : ([0-9a-f]*:[0-9a-f]*)/g);
  return [...found].map(([, label = "", value = ""]) => ({
    number: masked(parseNumber(value), COUNTED_MASK),
    label,
  }));
}

export interface ChainCount {
  readonly chain: string;
  /** Of the chain's only counter; of several the sum. */
  readonly packets: number;
}

/** Counters of rules, by chain. */
export async function readChainCounts(
  table: NftTable,
  options: NftOptions = {},
): Promise<readonly ChainCount[]> {
  const counts = new Map<string, number>();
  let chain = "";
  for (const line of (await listStructure(table, { ...options, counters: true }))?.split("\n") ?? []) {
    chain = /^\tchain (\S+) \{/.exec(line)?.[1] ?? chain;
    const packets = /\bcounter packets (\d+) bytes/.exec(line)?.[1];
    if (packets !== undefined) counts.set(chain, (counts.get(chain) ?? 0) + Number(packets));
  }
  return [...counts].map(([name, packets]) => ({ chain: name, packets }));
}
