/**
 * Tables of vectors: text that a person can check line by line, turned into packets to send and outcomes to expect.
 *
 * A table's first line names the columns: who sends. Every other line is a destination (`destinations.ts`), after `ipv4`
 * or `ipv6` if it holds for one family only, and a cell for each sender: what must come of it.
 *
 * ```text
 *                   | pod      | node           | client
 * web cluster http  | a1 a2 b1 | a1 a2 b1 +masq | a1 a2 b1 +masq
 * web cluster tcp/81 | reject / untouched #D4 | …
 * ```
 *
 * A cell names endpoints (`host:port` where it is not the port's own target), `reject`, `drop` or `untouched`; empty is not
 * sent. `+masq`: the endpoint sees another source than the sender's. `+sticky`: always the same one of them. Before
 * and after ` / `: nftables and iptables, where they are known to differ, with the reason's name after `#`. IPVS follows one
 * of them, as the reason says, or has a third part of its own.
 * An endpoint that reaches itself is always masqueraded; the cells need not say so.
 */
import {
  FAMILIES,
  type Family,
  HOSTS,
  type HostName,
  hostPort,
  isHostName,
  type Protocol,
} from "./addresses.ts";
import { type Destination, readDestination } from "./destinations.ts";
import { endpointHost } from "./manifest.ts";

export const BACKENDS = ["nftables", "iptables", "ipvs"] as const;
export type Backend = (typeof BACKENDS)[number];

/** What may come of a packet; more than one line means that each must be seen, and nothing else. */
export type Finding =
  | `reject`
  | `drop`
  | `untouched`
  | `${string}:${number}`
  | `${string}:${number} masqueraded`
  | string;

export interface Vector {
  readonly name: string;
  readonly from: HostName;
  readonly source: string;
  readonly family: Family;
  readonly protocol: Protocol;
  readonly address: string;
  readonly port: number;
  /** Sorted. */
  readonly want: Readonly<Record<Backend, readonly Finding[]>>;
  /** One of `want`, the same one each time. */
  readonly isSticky: boolean;
}

/** Columns that are not hosts themselves. */
const SENDERS: Readonly<Record<string, HostName>> = { node: "node-a" };

export const MASQUERADED = " masqueraded";

/** Why backends differ, and whom IPVS follows where the cell does not say it. */
export interface Difference {
  readonly why: string;
  readonly ipvs: "nftables" | "iptables";
}
export type Differences = Readonly<Record<string, Difference>>;

/** Reads a table. `reasons` are the known differences between the backends: a cell may differ only with one of them. */
export function readTable(text: string, reasons: Differences): readonly Vector[] {
  const lines = text.split("\n").filter((line) => line.trim() !== "" && !line.trim().startsWith("#"));
  const [header = "", ...rows] = lines.map((line) => line.split("|").map((cell) => cell.trim()));
  const senders = [...header].slice(1).map((column) => {
    const host = SENDERS[column] ?? column;
    if (!isHostName(host)) throw new Error(`no such sender: ${column}`);
    return host;
  });
  return rows.flatMap(([first = "", ...cells]) => {
    const [, only, target = ""] = /^(?:(ipv4|ipv6)\s+)?(.*)$/.exec(first) ?? [];
    const destination = readDestination(target);
    if (cells.length !== senders.length)
      throw new Error(`${first}: ${cells.length} cells for ${senders.length} senders`);
    return cells.flatMap((cell, column) => {
      const from = senders[column];
      if (cell === "" || from === undefined) return [];
      return FAMILIES.filter((family) => only === undefined || family === only).map((family) => {
        const title = target.replace(/\s+/g, " ");
        return vectorOf(`${family} ${from} → ${title}`, from, family, destination, cell, reasons);
      });
    });
  });
}

function vectorOf(
  name: string,
  from: HostName,
  family: Family,
  destination: Destination,
  cell: string,
  reasons: Differences,
): Vector {
  const [all = "", reason = ""] = cell.split("#").map((part) => part.trim());
  const [first = "", second = first, third] = all.split(" / ");
  const difference = Object.hasOwn(reasons, reason) ? reasons[reason] : undefined;
  if (all.includes(" / ") && difference === undefined) {
    throw new Error(`${name}: the backends differ without a reason`);
  }
  const followed = difference?.ipvs === "nftables" ? first : second;
  const source = HOSTS[from][family];
  const read = (text: string) => readCell(text, source, family, destination.targetPort);
  return {
    name,
    from,
    source,
    family,
    protocol: destination.protocol,
    address: destination.address[family],
    port: destination.port,
    want: { nftables: read(first), iptables: read(second), ipvs: read(third ?? followed) },
    isSticky: first.includes("+sticky"),
  };
}

function readCell(text: string, source: string, family: Family, targetPort: number): readonly Finding[] {
  const words = text.split(/\s+/).filter((word) => word !== "" && word !== "+sticky");
  const isMasqueraded = words.includes("+masq");
  const named = words.filter((word) => word !== "+masq");
  if (named.length === 1 && ["reject", "drop", "untouched"].includes(named[0] ?? "")) return named;
  return named
    .map((word) => {
      const [name = "", port = targetPort] = word.split(":");
      const host = endpointHost(name);
      if (!isHostName(host)) throw new Error(`no such endpoint: ${word}`);
      const address = HOSTS[host][family];
      return `${hostPort(address, Number(port))}${isMasqueraded || address === source ? MASQUERADED : ""}`;
    })
    .sort();
}
