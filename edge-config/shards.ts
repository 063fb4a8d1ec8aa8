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
import {
  changeTrie,
  type DirectoryEntry,
  type HostChange,
  type HostItem,
  type HostLeaf,
  type HostTrie,
  hostHash,
  itemOf,
  leavesOf,
} from "./directory.ts";
import { backendsOf, encodeHostRecord, type NamedBackend } from "./host-record.ts";
import { HOST_KINDS, type HostKind, hostKind, type ShardDirectory } from "./pointer.ts";
import { encodeShard, type ShardName, shardName, shardWeight } from "./shard.ts";
import { ShardTexts } from "./shard-texts.ts";

/** Shards are cut to stay below this, in bytes; one host alone may be larger. */
export const MAX_SHARD_BYTES = 256 * 1024;

/** A configuration as it stands in KV. */
export interface ShardSet {
  readonly directory: ShardDirectory;
  /** Text by name, made when it is asked for; exactly the shards that the directory names. */
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
  /** Any backend as it is now: a configuration that makes its records when it is asked for them need not for one. */
  readonly backend: (name: BackendName) => Backend | undefined;
}

interface CutMemo {
  readonly config: EdgeConfig;
  readonly keys: ConfigKeys | undefined;
  readonly maxShardBytes: number;
  readonly tries: Tries;
  readonly names: ReadonlyMap<HostLeaf<CutRecord>, ShardName>;
  /**
   * Hosts by the backends that they name. The next cut takes it along, since it costs as much as all hosts; made anew where
   * it is missing.
   */
  users: Map<BackendName, Set<string>> | undefined;
}

type Tries = Readonly<Record<HostKind, HostTrie<CutRecord> | undefined>>;

interface CutRecord extends HostItem {
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
  const delta = options.delta?.since === memo?.config ? options.delta : undefined;
  const users = takeUsers(memo);

  const changes: Record<HostKind, HostChange<CutRecord>[]> = { exact: [], wildcard: [], any: [] };
  for (const host of memo === undefined
    ? Object.keys(config.hosts)
    : changedHosts(config, memo, delta, users)) {
    const kind = hostKind(host);
    const before = itemOf(memo?.tries[kind], host);
    const hostConfig =
      delta === undefined
        ? ownValue(config.hosts, host)
        : delta.hosts.has(host)
          ? delta.hosts.get(host)
          : before?.config;
    const item =
      hostConfig === undefined
        ? undefined
        : await cutRecord(host, hostConfig, finder(config, delta, before), keys);
    changeUsers(users, host, before?.backends, item?.backends);
    changes[kind].push({ host, item });
  }
  const tries: Tries = {
    exact: changeTrie(memo?.tries.exact, changes.exact, maxShardBytes),
    wildcard: changeTrie(memo?.tries.wildcard, changes.wildcard, maxShardBytes),
    any: changeTrie(memo?.tries.any, changes.any, maxShardBytes),
  };
  const names = await nameLeaves(
    HOST_KINDS.flatMap((kind) => [...leavesOf(tries[kind])]),
    memo?.names,
  );
  const entriesOf = (kind: HostKind): readonly DirectoryEntry<ShardName>[] =>
    Array.from(leavesOf(tries[kind]), (leaf) => [leaf.prefix, names.get(leaf) as ShardName] as const);
  const anyShard = entriesOf("any")[0]?.[1];
  return {
    directory: {
      ...(options.clusters === undefined ? {} : { clusters: options.clusters }),
      ...(config.policies === undefined ? {} : { policies: config.policies }),
      exact: entriesOf("exact"),
      wildcard: entriesOf("wildcard"),
      ...(anyShard === undefined ? {} : { any: anyShard }),
    },
    shards: new ShardTexts(new Map(Array.from(names, ([leaf, name]) => [name, leaf.items]))),
    memo: { config, keys, maxShardBytes, tries, names, users },
  };
}

/** Of the cut before, which has none afterwards: they are changed in place. */
function takeUsers(memo: CutMemo | undefined): Map<BackendName, Set<string>> {
  const taken = memo?.users;
  if (taken !== undefined && memo !== undefined) {
    memo.users = undefined;
    return taken;
  }
  const users = new Map<BackendName, Set<string>>();
  for (const trie of Object.values(memo?.tries ?? {}))
    for (const { items } of leavesOf(trie))
      for (const { host, backends } of items) changeUsers(users, host, undefined, backends);
  return users;
}

function changeUsers(
  users: Map<BackendName, Set<string>>,
  host: string,
  before: readonly NamedBackend[] = [],
  after: readonly NamedBackend[] = [],
): void {
  if (before.length === after.length && before.every(([name], at) => name === after[at]?.[0])) return;
  for (const [name] of before) {
    const hosts = users.get(name);
    hosts?.delete(host);
    if (hosts?.size === 0) users.delete(name);
  }
  for (const [name] of after) {
    const hosts = users.get(name);
    if (hosts === undefined) users.set(name, new Set([host]));
    else hosts.add(host);
  }
}

/** Hosts whose records may be others than before: those of the delta, or those that a look at all of them finds. */
function changedHosts(
  config: EdgeConfig,
  { tries }: CutMemo,
  delta: ConfigDelta | undefined,
  users: ReadonlyMap<BackendName, ReadonlySet<string>>,
): ReadonlySet<string> {
  const changed = new Set<string>(delta?.hosts.keys());
  if (delta !== undefined) {
    for (const name of delta.backends.keys()) for (const host of users.get(name) ?? []) changed.add(host);
    return changed;
  }
  const gone = new Map<string, CutRecord>();
  for (const kind of HOST_KINDS)
    for (const { items } of leavesOf(tries[kind])) for (const record of items) gone.set(record.host, record);
  for (const host of Object.keys(config.hosts)) {
    const record = gone.get(host);
    const hostConfig = config.hosts[host];
    if (hostConfig === undefined) continue;
    if (record === undefined || !isSame(record, hostConfig, config.backends)) changed.add(host);
    gone.delete(host);
  }
  for (const host of gone.keys()) changed.add(host);
  return changed;
}

/** Where the backends of a record are found, `before`: what its host had in the cut before. */
function finder(
  config: EdgeConfig,
  delta: ConfigDelta | undefined,
  before: CutRecord | undefined,
): (name: BackendName) => Backend | undefined {
  if (delta === undefined) return (name) => ownValue(config.backends, name);
  const known = new Map(before?.backends);
  return (name) => {
    if (delta.backends.has(name)) return delta.backends.get(name);
    return known.has(name) ? known.get(name) : delta.backend(name);
  };
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

/** The name of every leaf's shard; of one that was there in the cut before it is known. */
async function nameLeaves(
  leaves: readonly HostLeaf<CutRecord>[],
  before: ReadonlyMap<HostLeaf<CutRecord>, ShardName> | undefined,
): Promise<ReadonlyMap<HostLeaf<CutRecord>, ShardName>> {
  const named = await Promise.all(
    leaves.map(
      async (leaf) => [leaf, before?.get(leaf) ?? (await shardName(encodeShard(leaf.items)))] as const,
    ),
  );
  return new Map(named);
}
