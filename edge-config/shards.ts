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
 * objects, a shard while its records are. A compiler that rebuilds objects without need loses the speed, never
 * the result. One that tells which hosts and backends are all that has changed (`ConfigDelta`) spares the look at
 * every host: one changed endpoint then costs one record and one shard.
 */

import type { Backend, BackendName, EdgeConfig, HostConfig } from "./config.ts";
import type { ConfigKeys } from "./config-keys.ts";
import { cutDirectory, type DirectoryEntry, hostHash } from "./directory.ts";
import { backendsOf, encodeHostRecord, type NamedBackend } from "./host-record.ts";
import { HOST_KINDS, type HostKind, hostKind, type ShardDirectory } from "./pointer.ts";
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

/** A configuration is another one in these hosts and backends, and in nothing else. */
export interface ConfigDelta {
  readonly since: EdgeConfig;
  /** As they are now; `undefined`: there is none of this name any more. */
  readonly hosts: ReadonlyMap<string, HostConfig | undefined>;
  readonly backends: ReadonlyMap<BackendName, Backend | undefined>;
}

interface CutMemo {
  readonly config: EdgeConfig;
  readonly keys: ConfigKeys | undefined;
  readonly maxShardBytes: number;
  readonly kinds: Readonly<Record<HostKind, CutKind>>;
  /** Where the records stand; made when it is first needed. */
  places?: RecordPlaces;
}

interface RecordPlaces {
  readonly ofHost: ReadonlyMap<string, RecordPlace>;
  /** Of every record that names it. */
  readonly ofBackend: ReadonlyMap<BackendName, readonly RecordPlace[]>;
}

interface RecordPlace {
  readonly kind: HostKind;
  /** Into `CutKind.sorted`. */
  readonly at: number;
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
  /** By name, those that do not exist included: one that appears later changes the record. */
  readonly backends: readonly NamedBackend[];
}

export interface CutOptions {
  /** Seal secrets with these; without them, routes that need a secret are denied. */
  readonly keys?: ConfigKeys | undefined;
  readonly previous?: ShardSet | undefined;
  /** Counts only where it is since the configuration of `previous`. */
  readonly delta?: ConfigDelta | undefined;
  /** Names of the clusters that the configuration was made of; see `ShardDirectory`. */
  readonly clusters?: readonly string[] | undefined;
  /** Smaller for tests. */
  readonly maxShardBytes?: number | undefined;
}

/** Throws only for a configuration that breaks its contract: a route that names a backend which is not there. */
export async function cutShards(config: EdgeConfig, options: CutOptions = {}): Promise<ShardSet> {
  const { keys, maxShardBytes = MAX_SHARD_BYTES } = options;
  const last = options.previous?.memo;
  const memo = last?.keys === keys && last?.maxShardBytes === maxShardBytes ? last : undefined;
  const before = memo?.kinds;
  const changed =
    memo === undefined || options.delta?.since !== memo.config
      ? undefined
      : await changeRecords(config, options.delta, memo, keys);

  const sorted = changed?.records ?? (await sortRecords(config, keys, before));
  const [exact, wildcard, any] = await Promise.all([
    cutKind(sorted.exact, maxShardBytes, before?.exact),
    cutKind(sorted.wildcard, maxShardBytes, before?.wildcard),
    cutKind(sorted.any, maxShardBytes, before?.any),
  ]);
  const shards = new Map<ShardName, string>();
  for (const { leaves } of [exact, wildcard, any])
    for (const { name, text } of leaves) shards.set(name, text);
  const anyShard = any.leaves[0]?.name;
  return {
    directory: {
      ...(options.clusters === undefined ? {} : { clusters: options.clusters }),
      ...(config.policies === undefined ? {} : { policies: config.policies }),
      exact: entriesOf(exact),
      wildcard: entriesOf(wildcard),
      ...(anyShard === undefined ? {} : { any: anyShard }),
    },
    shards,
    memo: {
      config,
      keys,
      maxShardBytes,
      kinds: { exact, wildcard, any },
      ...(changed?.places === undefined ? {} : { places: changed.places }),
    },
  };
}

function entriesOf(kind: CutKind): readonly DirectoryEntry<ShardName>[] {
  return kind.leaves.map(({ prefix, name }) => [prefix, name] as const);
}

type SortedRecords = Readonly<Record<HostKind, readonly CutRecord[]>>;

/**
 * Only the records of the delta's hosts, and those that name a backend of it, are made anew; each stays in its place.
 * `undefined` when a host came or went, which moves the others.
 */
async function changeRecords(
  config: EdgeConfig,
  { hosts, backends }: ConfigDelta,
  memo: CutMemo,
  keys: ConfigKeys | undefined,
): Promise<{ readonly records: SortedRecords; readonly places: RecordPlaces | undefined } | undefined> {
  memo.places ??= placesOf(memo.kinds);
  const { ofHost, ofBackend } = memo.places;
  const touched = new Set<RecordPlace>();
  for (const [host, hostConfig] of hosts) {
    const place = ofHost.get(host);
    if (place === undefined || hostConfig === undefined) return undefined;
    touched.add(place);
  }
  for (const name of backends.keys()) for (const place of ofBackend.get(name) ?? []) touched.add(place);

  const copies: Partial<Record<HostKind, CutRecord[]>> = {};
  let places: RecordPlaces | undefined = memo.places;
  for (const { kind, at } of touched) {
    const record = memo.kinds[kind].sorted[at];
    if (record === undefined) continue;
    const known = new Map(record.backends);
    const find = (name: BackendName): Backend | undefined => {
      if (backends.has(name)) return backends.get(name);
      return known.has(name) ? known.get(name) : ownValue(config.backends, name);
    };
    const made = await cutRecord(record.host, hosts.get(record.host) ?? record.config, find, keys);
    copies[kind] ??= memo.kinds[kind].sorted.slice();
    copies[kind][at] = made;
    // It names others than before, itself or in the policies of a backend.
    if (!namesSame(made.backends, record.backends)) places = undefined;
  }
  const { exact, wildcard, any } = memo.kinds;
  const records = {
    exact: copies.exact ?? exact.sorted,
    wildcard: copies.wildcard ?? wildcard.sorted,
    any: copies.any ?? any.sorted,
  };
  return { records, places };
}

function namesSame(left: readonly NamedBackend[], right: readonly NamedBackend[]): boolean {
  return left.length === right.length && left.every(([name], at) => name === right[at]?.[0]);
}

function placesOf(kinds: CutMemo["kinds"]): RecordPlaces {
  const ofHost = new Map<string, RecordPlace>();
  const ofBackend = new Map<BackendName, RecordPlace[]>();
  for (const kind of HOST_KINDS) {
    kinds[kind].sorted.forEach(({ host, backends }, at) => {
      const place: RecordPlace = { kind, at };
      ofHost.set(host, place);
      for (const [name] of backends) {
        const places = ofBackend.get(name);
        if (places === undefined) ofBackend.set(name, [place]);
        else places.push(place);
      }
    });
  }
  return { ofHost, ofBackend };
}

/** The record of every host, by kind and hash. */
async function sortRecords(
  config: EdgeConfig,
  keys: ConfigKeys | undefined,
  before: CutMemo["kinds"] | undefined,
): Promise<SortedRecords> {
  const hosts = Object.keys(config.hosts);
  if (before !== undefined) {
    const kept = await keepOrder(config, hosts.length, keys, before);
    if (kept !== undefined) return kept;
  }
  const known = new Map<string, CutRecord>();
  if (before !== undefined) {
    for (const { sorted } of Object.values(before))
      for (const record of sorted) known.set(record.host, record);
  }
  const find = (name: BackendName): Backend | undefined => ownValue(config.backends, name);
  const records: Record<HostKind, CutRecord[]> = { exact: [], wildcard: [], any: [] };
  for (const host of hosts) {
    const hostConfig = config.hosts[host];
    if (hostConfig === undefined) continue;
    const record = known.get(host);
    const kept = record !== undefined && isSame(record, hostConfig, config.backends);
    records[hostKind(host)].push(kept ? record : await cutRecord(host, hostConfig, find, keys));
  }
  for (const list of Object.values(records)) {
    list.sort((left, right) => left.hash - right.hash || (left.host < right.host ? -1 : 1));
  }
  return records;
}

/**
 * The short way when the hosts are those of the cut before, which is nearly always so: no sorting, and one
 * look-up for each host and backend. `undefined` when a host came or went.
 */
async function keepOrder(
  config: EdgeConfig,
  hostCount: number,
  keys: ConfigKeys | undefined,
  before: CutMemo["kinds"],
): Promise<SortedRecords | undefined> {
  if (before.exact.sorted.length + before.wildcard.sorted.length + before.any.sorted.length !== hostCount) {
    return undefined;
  }
  const kept: Record<HostKind, readonly CutRecord[]> = { exact: [], wildcard: [], any: [] };
  for (const kind of HOST_KINDS) {
    const records = before[kind].sorted.slice();
    for (let at = 0; at < records.length; at++) {
      const record = records[at];
      if (record === undefined) continue;
      // One look-up where nothing changed: no inherited value is the very object that we remember.
      const hostConfig =
        config.hosts[record.host] === record.config ? record.config : ownValue(config.hosts, record.host);
      if (hostConfig === undefined) return undefined;
      if (!isSame(record, hostConfig, config.backends)) {
        records[at] = await cutRecord(
          record.host,
          hostConfig,
          (name) => ownValue(config.backends, name),
          keys,
        );
      }
    }
    kept[kind] = records;
  }
  return kept;
}

function isSame(record: CutRecord, hostConfig: HostConfig, backends: EdgeConfig["backends"]): boolean {
  if (record.config !== hostConfig) return false;
  for (const [name, backend] of record.backends) {
    if (backend !== undefined && backends[name] === backend) continue;
    if (ownValue(backends, name) !== backend) return false;
  }
  return true;
}

/** A look-up that is not fooled by `constructor`, which is a legal name of a host. */
function ownValue<T>(record: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined;
}

async function cutRecord(
  host: string,
  config: HostConfig,
  find: (name: BackendName) => Backend | undefined,
  keys: ConfigKeys | undefined,
): Promise<CutRecord> {
  const named = backendsOf(config, find);
  const text = await encodeHostRecord(host, config, named, keys);
  return { host, hash: hostHash(host), weight: shardWeight(host, text), text, config, backends: named };
}

async function cutKind(
  sorted: readonly CutRecord[],
  maxShardBytes: number,
  before: CutKind | undefined,
): Promise<CutKind> {
  if (before?.sorted === sorted) return before;
  const leavesBefore = new Map(before?.leaves.map((leaf) => [leaf.prefix, leaf]));
  const leaves = await Promise.all(
    cutDirectory(sorted, maxShardBytes).map(async ([prefix, records]): Promise<CutLeaf> => {
      const leaf = leavesBefore.get(prefix);
      if (leaf !== undefined && holdsSame(leaf.records, records)) return { ...leaf, records };
      const text = encodeShard(records);
      return { prefix, records, name: await shardName(text), text };
    }),
  );
  return { sorted, leaves };
}

function holdsSame(left: readonly CutRecord[], right: readonly CutRecord[]): boolean {
  if (left.length !== right.length) return false;
  for (let at = 0; at < left.length; at++) {
    const one = left[at];
    const other = right[at];
    if (one !== other && !(one?.host === other?.host && one?.text === other?.text)) return false;
  }
  return true;
}
