/**
 * Cuts a configuration into shards and their directory.
 *
 * In: an EdgeConfig, and the cut before it, if any. Out: the texts of all shards by name, and the directory
 * that finds them. Pure: the same configuration gives the same bytes, with or without a cut before it.
 *
 * The steps: host → record (`host-record.ts`) → prefix of the trie (`directory.ts`) → shard (`shard.ts`).
 * A reader goes the other way: pointer → `locate` → `readShard` → `decodeHostRecord`.
 *
 * The cut before only saves work: a record is kept while its HostConfig and its Backends are the very same
 * objects, a shard while its records are. One changed endpoint then costs one record, one shard and one
 * pass of comparisons over the hosts. A compiler that rebuilds objects without need loses the speed, never
 * the result.
 */

import type { Backend, BackendName, EdgeConfig, HostConfig } from "./config.ts";
import type { ConfigKeys } from "./config-keys.ts";
import { cutDirectory, type DirectoryEntry, hostHash } from "./directory.ts";
import { backendNames, encodeHostRecord } from "./host-record.ts";
import { hostKind, type ShardDirectory } from "./pointer.ts";
import { encodeShard, type ShardName, shardName, shardWeight } from "./shard.ts";

/** Shards are cut to stay below this, in bytes; one host alone may be larger. */
export const MAX_SHARD_BYTES = 256 * 1024;

/** A configuration as it stands in KV. */
export interface ShardSet {
  readonly directory: ShardDirectory;
  /** Text by name; exactly the shards that the directory names. */
  readonly shards: ReadonlyMap<ShardName, string>;
  /** For the next cut only. */
  readonly memo: CutMemo;
}

interface CutMemo {
  readonly keys: ConfigKeys | undefined;
  readonly maxShardBytes: number;
  readonly records: ReadonlyMap<string, CutRecord>;
  readonly exact: CutKind;
  readonly wildcard: CutKind;
  readonly any: CutKind;
}

/** All hosts of one kind: their records by hash, and the shards made of them. */
interface CutKind {
  readonly sorted: readonly CutRecord[];
  readonly leaves: readonly CutLeaf[];
}

interface CutLeaf {
  readonly prefix: string;
  readonly records: readonly CutRecord[];
  readonly name: ShardName;
  readonly text: string;
}

interface CutRecord {
  readonly host: string;
  readonly hash: number;
  readonly weight: number;
  readonly text: string;
  /** The objects that the text was made of. */
  readonly config: HostConfig;
  readonly backends: readonly (readonly [BackendName, Backend])[];
}

export interface CutOptions {
  /** Seal secrets with these; without them, routes that need a secret are denied. */
  readonly keys?: ConfigKeys | undefined;
  readonly previous?: ShardSet | undefined;
  /** Smaller for tests. */
  readonly maxShardBytes?: number | undefined;
}

/** Throws only for a configuration that breaks its contract: a route that names a backend which is not there. */
export async function cutShards(config: EdgeConfig, options: CutOptions = {}): Promise<ShardSet> {
  const { keys, maxShardBytes = MAX_SHARD_BYTES } = options;
  const memo = options.previous?.memo;
  const usable = memo?.keys === keys && memo?.maxShardBytes === maxShardBytes ? memo : undefined;

  const records = new Map<string, CutRecord>();
  for (const host of Object.keys(config.hosts)) {
    const hostConfig = config.hosts[host];
    if (hostConfig === undefined) continue;
    const before = usable?.records.get(host);
    records.set(
      host,
      before !== undefined && isSame(before, hostConfig, config)
        ? before
        : await cutRecord(host, hostConfig, config, keys, before),
    );
  }

  const [exact, wildcard, any] = await Promise.all([
    cutKind("exact", records, maxShardBytes, usable?.exact),
    cutKind("wildcard", records, maxShardBytes, usable?.wildcard),
    cutKind("any", records, maxShardBytes, usable?.any),
  ]);
  const shards = new Map<ShardName, string>();
  for (const { leaves } of [exact, wildcard, any])
    for (const { name, text } of leaves) shards.set(name, text);
  const anyShard = any.leaves[0]?.name;
  return {
    directory: {
      exact: entriesOf(exact),
      wildcard: entriesOf(wildcard),
      ...(anyShard === undefined ? {} : { any: anyShard }),
    },
    shards,
    memo: { keys, maxShardBytes, records, exact, wildcard, any },
  };
}

function entriesOf(kind: CutKind): readonly DirectoryEntry<ShardName>[] {
  return kind.leaves.map(({ prefix, name }) => [prefix, name] as const);
}

function isSame(before: CutRecord, hostConfig: HostConfig, config: EdgeConfig): boolean {
  return (
    before.config === hostConfig &&
    before.backends.every(([name, backend]) => config.backends[name] === backend)
  );
}

async function cutRecord(
  host: string,
  hostConfig: HostConfig,
  config: EdgeConfig,
  keys: ConfigKeys | undefined,
  before: CutRecord | undefined,
): Promise<CutRecord> {
  const backends: (readonly [BackendName, Backend])[] = [];
  for (const name of backendNames(hostConfig, config.backends)) {
    const backend = config.backends[name];
    if (backend !== undefined) backends.push([name, backend]);
  }
  const text = await encodeHostRecord(host, hostConfig, backends, keys);
  const hash = before?.hash ?? hostHash(host);
  return { host, hash, weight: shardWeight(host, text), text, config: hostConfig, backends };
}

async function cutKind(
  kind: "exact" | "wildcard" | "any",
  records: ReadonlyMap<string, CutRecord>,
  maxShardBytes: number,
  before: CutKind | undefined,
): Promise<CutKind> {
  const sorted = sortByHash(kind, records, before);
  const leavesBefore = new Map(before?.leaves.map((leaf) => [leaf.prefix, leaf]));
  const leaves = await Promise.all(
    cutDirectory(sorted, maxShardBytes).map(async ([prefix, members]): Promise<CutLeaf> => {
      const leaf = leavesBefore.get(prefix);
      if (leaf !== undefined && holdsSame(leaf.records, members)) return { ...leaf, records: members };
      const text = encodeShard(members);
      return { prefix, records: members, name: await shardName(text), text };
    }),
  );
  return { sorted, leaves };
}

function holdsSame(left: readonly CutRecord[], right: readonly CutRecord[]): boolean {
  return (
    left.length === right.length &&
    left.every(
      (record, at) =>
        record === right[at] || (record.text === right[at]?.text && record.host === right[at]?.host),
    )
  );
}

/** Sorting costs most of a small change, so an unchanged set of hosts keeps its order. */
function sortByHash(
  kind: "exact" | "wildcard" | "any",
  records: ReadonlyMap<string, CutRecord>,
  before: CutKind | undefined,
): readonly CutRecord[] {
  const mine: CutRecord[] = [];
  for (const record of records.values()) if (hostKind(record.host) === kind) mine.push(record);
  if (before !== undefined && before.sorted.length === mine.length) {
    const kept: CutRecord[] = [];
    for (const { host } of before.sorted) {
      const record = records.get(host);
      if (record !== undefined) kept.push(record);
    }
    if (kept.length === mine.length) return kept;
  }
  return mine.sort((left, right) => left.hash - right.hash || (left.host < right.host ? -1 : 1));
}
