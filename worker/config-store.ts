/**
 * The configuration as this isolate knows it.
 *
 * In: the pointer and the shards in KV. Out: the table of a host. A cold isolate reads twice (the pointer; then
 * in one bulk read every shard that may hold the host), a warm one not at all: it looks for a newer pointer
 * behind the answer, every `refreshSeconds`. Only when nobody has looked for `maxStaleSeconds` does a request
 * wait for that look.
 *
 * A newer pointer is adopted once the shards of all hosts in use are here and verified. Until then, and for as
 * long as something is missing, torn, forged or of an unknown version, the last good configuration serves; the
 * reason stands in `/.fairlead/status`.
 *
 * Requests share what was read and never each other's promises: what one request waits for dies with it.
 */

import { ANY_HOST } from "../edge-config/config.ts";
import { type ConfigKeys, deriveConfigKeys } from "../edge-config/config-keys.ts";
import { decodeHostRecord } from "../edge-config/host-record.ts";
import { loadRe2 } from "../edge-config/pattern/pattern.ts";
import {
  decodePointer,
  type HostShards,
  type LoadedPointer,
  POINTER_KEY,
  supersedes,
  wildcardOf,
} from "../edge-config/pointer.ts";
import type { EdgePolicies } from "../edge-config/policies.ts";
import { readShard, type Shard, type ShardName } from "../edge-config/shard.ts";
import type { BackendPools } from "./balance/backend-pools.ts";
import { HostTable } from "./host-table.ts";
import { WeightedLru } from "./lru.ts";

/** `undefined`: no such host. `unavailable`: its configuration cannot be had now. */
export type HostAnswer = HostTable | undefined | "unavailable";

export interface StoreEnvironment {
  readonly SHARDS: Pick<KVNamespace, "get">;
  readonly POINTER: Pick<KVNamespace, "get">;
  readonly FAIRLEAD_CONFIG_KEY?: string;
}

export interface StoreSettings {
  readonly refreshSeconds: number;
  readonly maxStaleSeconds: number;
}

/** Bytes of shard text in an isolate, which has 128 MB for everything. */
const MAX_SHARD_BYTES = 24 * 1024 * 1024;
/** Bytes of records whose tables are kept; a table weighs several times its record. */
const MAX_TABLE_BYTES = 8 * 1024 * 1024;
/** Names that clients asked for, known or not. */
const MAX_NAMES = 20_000;
/** After a failed read, others wait this long before they try again; meanwhile the answer is 503. */
const RETRY_MILLISECONDS = 1_000;
/** A refresh that has not ended by then died with its request, and another may start. */
const REFRESH_DIES_MILLISECONDS = 30_000;
/** Keys in one bulk read (Cloudflare's limit). */
const MAX_BULK_KEYS = 100;
/** Cloudflare's smallest. */
const POINTER_CACHE_SECONDS = 30;
/** Shards never change. */
const SHARD_CACHE_SECONDS = 86_400;

interface KnownTable {
  /** The line that the table was built from. */
  readonly line: string;
  readonly table: HostTable;
}

export class ConfigStore {
  readonly #environment: StoreEnvironment;
  readonly #pools: BackendPools;
  readonly #refreshMilliseconds: number;
  readonly #maxStaleMilliseconds: number;
  readonly #now: () => number;

  #current: LoadedPointer | undefined;
  #keys: ConfigKeys | undefined;
  /** By the name that was asked for, under `#current`; forgotten at each adoption. */
  #hosts = new Map<string, HostTable | undefined>();
  readonly #shards = new WeightedLru<ShardName, Shard>(MAX_SHARD_BYTES);
  /** By the name in the configuration. Outlives adoptions: a record that stays keeps its table and filters. */
  readonly #tables = new WeightedLru<string, KnownTable>(MAX_TABLE_BYTES);
  #checkedAt = 0;
  #adoptedAt = 0;
  #refreshingSince = 0;
  #pointerFailedAt = Number.NEGATIVE_INFINITY;
  /** Shards that could not be had, and when that was. Forgotten at each adoption. */
  #failedShards = new Map<ShardName, number>();
  #lastError: { readonly message: string; readonly at: number } | undefined;
  #kvReads = 0;
  #warmLookups = 0;
  #shardHits = 0;
  #shardMisses = 0;

  constructor(
    environment: StoreEnvironment,
    settings: StoreSettings,
    pools: BackendPools,
    now: () => number = Date.now,
  ) {
    this.#environment = environment;
    this.#pools = pools;
    this.#refreshMilliseconds = settings.refreshSeconds * 1000;
    this.#maxStaleMilliseconds = settings.maxStaleSeconds * 1000;
    this.#now = now;
  }

  /** The table that answers for a host name (lower case, no port). At once when warm. */
  host(name: string, context: Pick<ExecutionContext, "waitUntil">): HostAnswer | Promise<HostAnswer> {
    if (this.#current === undefined) return this.#loadFirst(name);
    const age = this.#now() - this.#checkedAt;
    if (age >= this.#refreshMilliseconds && !this.#isRefreshing()) {
      if (age >= this.#maxStaleMilliseconds) return this.#refresh().then(() => this.#find(name));
      context.waitUntil(this.#refresh());
    }
    const known = this.#hosts.get(name);
    if (known === undefined && !this.#hosts.has(name)) return this.#find(name);
    this.#warmLookups++;
    return known;
  }

  /** What holds for every host; absent before the first pointer. */
  get policies(): EdgePolicies | undefined {
    return this.#current?.pointer.policies;
  }

  /** Looks for a newer pointer now, however fresh the present one is: for whoever has just published one. */
  async look(): Promise<void> {
    if (this.#current === undefined) await this.#loadFirst("");
    else if (!this.#isRefreshing()) await this.#refresh();
  }

  /** For `/.fairlead/status`. Times in milliseconds since the epoch. */
  get status() {
    const pointer = this.#current?.pointer;
    return {
      pointer,
      checkedAt: this.#checkedAt,
      adoptedAt: this.#adoptedAt,
      kvReads: this.#kvReads,
      /** Requests whose host was known already; the others asked shards in memory, or KV for them. */
      warmLookups: this.#warmLookups,
      shardHits: this.#shardHits,
      shardMisses: this.#shardMisses,
      shards: { count: this.#shards.size, bytes: this.#shards.weight },
      tables: this.#tables.size,
      lastError: this.#lastError,
    };
  }

  async #loadFirst(name: string): Promise<HostAnswer> {
    if (this.#now() - this.#pointerFailedAt < RETRY_MILLISECONDS) return "unavailable";
    const loaded = await this.#readPointer();
    if (loaded === undefined) {
      this.#pointerFailedAt = this.#now();
      return "unavailable";
    }
    // Another request may have been quicker.
    if (this.#current === undefined || supersedes(loaded.pointer, this.#current.pointer)) this.#adopt(loaded);
    return this.#find(name);
  }

  /** Looks among the shards of the current pointer, and reads those that are not here. */
  async #find(name: string): Promise<HostAnswer> {
    for (;;) {
      const loaded = this.#current;
      if (loaded === undefined) return "unavailable";
      const places = loaded.locate(name);
      const wanted = shardNames(places);
      const missing = wanted.filter((shard) => !this.#shards.has(shard));
      this.#shardHits += wanted.length - missing.length;
      if (missing.length > 0 && !(await this.#readMissing(missing))) {
        if (this.#current !== loaded) continue;
        return "unavailable";
      }
      const table = await this.#build(name, places);
      if (this.#current !== loaded) continue; // Adopted meanwhile: an old record must not outlive that.
      if (this.#hosts.size >= MAX_NAMES) this.#hosts.clear();
      this.#hosts.set(name, table);
      return table;
    }
  }

  /** Whether all of them are here now. Where not, the pointer may be older than the shards: looks for a newer one. */
  async #readMissing(missing: readonly ShardName[]): Promise<boolean> {
    const now = this.#now();
    if (missing.some((shard) => now - (this.#failedShards.get(shard) ?? 0) < RETRY_MILLISECONDS))
      return false;
    if (await this.#readShards(missing)) return true;
    if (!this.#isRefreshing()) await this.#refresh();
    return false;
  }

  /** The table of the most exact name that the shards hold. */
  async #build(name: string, places: HostShards): Promise<HostTable | undefined> {
    const wildcard = wildcardOf(name);
    const candidates: readonly (readonly [string | undefined, ShardName | undefined])[] = [
      [name, places.exact],
      [wildcard, places.wildcard],
      [ANY_HOST, places.any],
    ];
    for (const [key, shardName] of candidates) {
      if (key === undefined || shardName === undefined) continue;
      const line = this.#shards.get(shardName)?.record(key);
      if (line === undefined) continue;
      const known = this.#tables.get(key);
      if (known?.line === line) return known.table;
      const loaded = this.#current;
      if (mayHoldPatterns(line)) await loadRe2();
      const record = await decodeHostRecord(key, line, await this.#configKeys());
      if (this.#current !== loaded) return undefined; // The caller asks again.
      const table = new HostTable(key, record, this.#pools);
      this.#tables.set(key, { line, table }, line.length);
      return table;
    }
    return undefined;
  }

  #isRefreshing(): boolean {
    return this.#now() - this.#refreshingSince < REFRESH_DIES_MILLISECONDS;
  }

  /** Looks for a newer pointer and adopts it if all that is in use under it is here. Never throws. */
  async #refresh(): Promise<void> {
    const startedAt = this.#now();
    this.#refreshingSince = startedAt;
    try {
      const loaded = await this.#readPointer();
      const current = this.#current;
      if (loaded === undefined || current === undefined) return;
      if (!supersedes(loaded.pointer, current.pointer)) this.#lastError = undefined;
      else if (await this.#readShardsInUse(loaded)) this.#adopt(loaded);
    } finally {
      this.#checkedAt = this.#now();
      if (this.#refreshingSince === startedAt) this.#refreshingSince = 0;
    }
  }

  #adopt(loaded: LoadedPointer): void {
    this.#current = loaded;
    this.#hosts = new Map();
    this.#failedShards = new Map();
    this.#adoptedAt = this.#now();
    this.#checkedAt = this.#adoptedAt;
    this.#lastError = undefined;
  }

  /** The shards under a new pointer of every host in use under the current one. */
  async #readShardsInUse(loaded: LoadedPointer): Promise<boolean> {
    const wanted = new Set<ShardName>();
    for (const [name, table] of this.#hosts) {
      if (table !== undefined) for (const shard of shardNames(loaded.locate(name))) wanted.add(shard);
    }
    return this.#readShards([...wanted].filter((shard) => !this.#shards.has(shard)));
  }

  /** Whether all of them came and were right. */
  async #readShards(names: readonly ShardName[]): Promise<boolean> {
    let isComplete = true;
    for (let at = 0; at < names.length; at += MAX_BULK_KEYS) {
      const batch = names.slice(at, at + MAX_BULK_KEYS);
      this.#shardMisses += batch.length;
      for (const [name, text] of await this.#readBatch(batch)) {
        const reading = text === null ? undefined : await readShard(name, text);
        if (reading?.kind === "shard") {
          this.#shards.set(name, reading.shard, reading.shard.byteLength);
        } else {
          isComplete = false;
          this.#failedShards.set(name, this.#now());
          this.#fail(reading === undefined ? `the shard ${name} is missing` : reading.reason);
        }
      }
    }
    return isComplete;
  }

  async #readBatch(names: readonly ShardName[]): Promise<readonly (readonly [ShardName, string | null])[]> {
    this.#kvReads++;
    const options = { type: "text", cacheTtl: SHARD_CACHE_SECONDS } as const;
    try {
      const [only] = names;
      if (names.length === 1 && only !== undefined)
        return [[only, await this.#environment.SHARDS.get(only, options)]];
      const texts = await this.#environment.SHARDS.get([...names], options);
      return names.map((name) => [name, texts.get(name) ?? null] as const);
    } catch (error) {
      this.#fail(`KV cannot be read: ${messageOf(error)}`);
      return names.map((name) => [name, null] as const);
    }
  }

  async #readPointer(): Promise<LoadedPointer | undefined> {
    try {
      const keys = await this.#configKeys();
      this.#kvReads++;
      const text = await this.#environment.POINTER.get(POINTER_KEY, {
        type: "text",
        cacheTtl: POINTER_CACHE_SECONDS,
      });
      const reading =
        text === null
          ? ({ kind: "refused", reason: "there is no pointer in KV" } as const)
          : await decodePointer(text, keys);
      if (reading.kind === "pointer") {
        if (text !== null && mayHoldPatterns(text)) await loadRe2();
        return reading.loaded;
      }
      this.#fail(reading.reason);
    } catch (error) {
      this.#fail(messageOf(error));
    }
    return undefined;
  }

  async #configKeys(): Promise<ConfigKeys | undefined> {
    const { FAIRLEAD_CONFIG_KEY } = this.#environment;
    if (!FAIRLEAD_CONFIG_KEY) return undefined;
    this.#keys ??= await deriveConfigKeys(FAIRLEAD_CONFIG_KEY);
    return this.#keys;
  }

  #fail(message: string): void {
    if (this.#lastError?.message !== message) console.error(`The configuration stays as it is: ${message}.`);
    this.#lastError = { message, at: this.#now() };
  }
}

function shardNames({ exact, wildcard, any }: HostShards): readonly ShardName[] {
  const names: ShardName[] = [];
  for (const name of [exact, wildcard, any])
    if (name !== undefined && !names.includes(name)) names.push(name);
  return names;
}

/** Fields by which a record or a pointer asks for the pattern engine, which most never need. */
function mayHoldPatterns(text: string): boolean {
  return text.includes('"regex"') || text.includes('"pattern"');
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
