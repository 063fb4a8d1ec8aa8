/**
 * One shard: a text that holds the records of some hosts and is named by its content.
 *
 *     {"version":1,"hosts":{"a.example":[0,210],"b.example":[211,340]}}
 *     {…record of a.example…}
 *     {…record of b.example…}
 *
 * The first line is the index: host → offset and length of its record, counted from the end of that line.
 * A cold isolate parses the index and one record, not the whole text. Everything is ASCII.
 *
 * The name is the SHA-256 of the bytes, shortened to 128 bits. A reader trusts no text that has another
 * name, so a torn, stale or foreign value is told from a good one, whatever KV returns.
 */

import { EDGE_CONFIG_VERSION } from "./config.ts";
import { asciiJson } from "./host-record.ts";
import { hex, subtle, utf8Bytes } from "./web-platform.ts";

/** Key of a shard in KV: `s/` and 32 hexadecimal digits. */
export type ShardName = `s/${string}`;

const NAME = /^s\/[0-9a-f]{32}$/;

export function isShardName(text: string): text is ShardName {
  return NAME.test(text);
}

export async function shardName(text: string): Promise<ShardName> {
  return `s/${hex(await subtle.digest("SHA-256", utf8Bytes(text))).slice(0, 32)}`;
}

/** Bytes that a host adds to a shard: its record, its line break and its entry in the index. */
export function shardWeight(host: string, record: string): number {
  return record.length + 1 + asciiJson(host).length + ":[0000000,0000000],".length;
}

/** The text of a shard. The order of the hosts is the caller's; it must depend on the hosts alone. */
export function encodeShard(records: readonly { readonly host: string; readonly text: string }[]): string {
  const index: string[] = [];
  const lines: string[] = [""];
  let offset = 0;
  for (const { host, text } of records) {
    index.push(`${asciiJson(host)}:[${offset},${text.length}]`);
    lines.push(text);
    offset += text.length + 1;
  }
  lines[0] = `{"version":${EDGE_CONFIG_VERSION},"hosts":{${index.join(",")}}}`;
  // The last line ends, too. All in one piece: a text put together from two is copied once more when it is read.
  lines.push("");
  return lines.join("\n");
}

/** A verified shard with its index parsed. */
export interface Shard {
  readonly name: ShardName;
  /** Of the whole text, for caches that are bounded in bytes. */
  readonly byteLength: number;
  readonly hosts: () => readonly string[];
  /** The record's line, or `undefined` when the shard has no such host. */
  readonly record: (host: string) => string | undefined;
}

export type ShardReading =
  | { readonly kind: "shard"; readonly shard: Shard }
  /** The reason is a clause for a log line. */
  | { readonly kind: "refused"; readonly reason: string };

/** Verifies a text against the name under which it was found, and parses its index. Never throws. */
export async function readShard(name: ShardName, text: string): Promise<ShardReading> {
  const actual = await shardName(text);
  if (actual !== name) return { kind: "refused", reason: `the text under ${name} hashes to ${actual}` };
  const end = text.indexOf("\n");
  let index: unknown;
  try {
    index = JSON.parse(text.slice(0, Math.max(end, 0)));
  } catch {
    return { kind: "refused", reason: `the index of ${name} is no JSON` };
  }
  if (typeof index !== "object" || index === null) return { kind: "refused", reason: `${name} has no index` };
  const { version, hosts } = index as { version?: unknown; hosts?: unknown };
  if (version !== EDGE_CONFIG_VERSION) {
    return {
      kind: "refused",
      reason: `${name} has version ${String(version)}, this reader knows ${EDGE_CONFIG_VERSION}`,
    };
  }
  if (typeof hosts !== "object" || hosts === null) return { kind: "refused", reason: `${name} has no hosts` };
  const places = hosts as Readonly<Record<string, readonly [number, number]>>;
  const body = end + 1;
  return {
    kind: "shard",
    shard: {
      name,
      byteLength: text.length,
      hosts: () => Object.keys(places),
      record: (host) => {
        if (!Object.hasOwn(places, host)) return undefined; // `constructor` is a legal host name.
        const place = places[host];
        return place === undefined ? undefined : text.slice(body + place[0], body + place[0] + place[1]);
      },
    },
  };
}
