/**
 * Brings KV to a configuration: shards first, the pointer last.
 *
 * In: a `ShardSet` to publish. Out: what was done. All knowledge of KV is read back from it at the start,
 * and again after every failure, for a call that failed may have had its effect.
 * Not here: when to publish and when to try again (`publisher.ts`).
 *
 * What readers may rely on, at every moment and wherever this stops:
 * - A pointer is written only after every shard that it names was stored, so there is no torn state to see.
 * - A shard is never rewritten with other bytes, since its name is its hash.
 * - A shard is deleted only a grace time after the last pointer that named it was replaced.
 * - A pointer of a higher epoch is never overwritten: whoever meets one was deposed, and stops.
 */

import { EDGE_CONFIG_VERSION } from "../../edge-config/config.ts";
import type { ConfigKeys } from "../../edge-config/config-keys.ts";
import {
  decodePointer,
  encodePointer,
  POINTER_KEY,
  type Pointer,
  type ShardDirectory,
  sameDirectory,
  shardsOf,
  supersedes,
} from "../../edge-config/pointer.ts";
import { isShardName, type ShardName } from "../../edge-config/shard.ts";
import type { ShardSet } from "../../edge-config/shards.ts";
import type { Budget } from "./budget.ts";
import type { KvClient } from "./client.ts";
import {
  advanceHistory,
  decodeHistory,
  encodeHistory,
  expiredShards,
  HISTORY_KEY,
  type History,
  mergeHistories,
  type WrittenPointer,
  writesIn,
} from "./history.ts";
import { type ConfigReading, readConfig } from "./read-config.ts";

export interface PublishOptions {
  readonly client: KvClient;
  readonly keys?: ConfigKeys | undefined;
  /** The term of leadership; absent: no election, the epoch that stands in KV is kept. */
  readonly epoch?: (() => number) | undefined;
  /** How long a shard outlives the last pointer that named it. */
  readonly graceMs: number;
  /** `admit` is asked before a run writes so many keys. What is spent stands in the history, for the next process. */
  readonly budget?: Pick<Budget, "admit" | "writes" | "resume"> | undefined;
  /** Awaited just before a pointer is written, to keep the distance between two of them. */
  readonly beforePointer?: (() => Promise<void>) | undefined;
  /** Told when a pointer was written, or may have been. */
  readonly afterPointer?: (() => void) | undefined;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export type PublishResult =
  | { readonly kind: "unchanged"; readonly pointer: Pointer }
  /** An operator went back to an earlier generation, which stays until he lets newer ones pass. */
  | { readonly kind: "pinned"; readonly generation: number }
  | {
      readonly kind: "published";
      readonly pointer: Pointer;
      readonly writtenShards: readonly ShardName[];
      readonly writtenBytes: number;
    };

/** Another leader, of a later term, has taken over. Nothing was written, and nothing may be any more. */
export class DeposedError extends Error {
  override readonly name = "DeposedError";
}

/** How often a run starts over when somebody else moved the pointer under it. */
const MAX_RESTARTS = 3;

/** What stands in KV, as far as we know. */
interface StoredState {
  /** As it stands, readable or not. */
  readonly pointerText: string | undefined;
  /** Absent when there is none that the keys accept. */
  readonly pointer: Pointer | undefined;
  /** Highest numbers of all accepted pointers: new ones go beyond them. */
  readonly seen: { readonly generation: number; readonly epoch: number; readonly createdAtMs: number };
  /** Shards that surely stand: stored by us, or named by the pointer and listed. */
  readonly shards: ReadonlySet<ShardName>;
  readonly history: History;
}

export interface Publication {
  /** Makes KV hold this set. Rejects with `KvError` or `DeposedError`; then call it again, later or never. */
  readonly publish: (set: ShardSet) => Promise<PublishResult>;
  /** Deletes shards whose grace time is over; returns how many. Rejects as `publish` does. */
  readonly sweep: () => Promise<number>;
  /** Puts the pointer back when somebody changed or deleted it, and shards that are missing. */
  readonly verify: (set: ShardSet) => Promise<PublishResult>;
  /** Writes the history if it differs from what stands in KV. */
  readonly saveHistory: () => Promise<void>;
  /** Publishes the directory of an earlier generation under a new one, and pins it. */
  readonly rollback: (generation: number) => Promise<PublishResult>;
  /** Lets configurations pass again after a rollback. */
  readonly unpin: () => Promise<void>;
  /** Reads KV if that was not done yet: the pointer that stands. Rejects as `publish` does. */
  readonly read: () => Promise<Pointer | undefined>;
  /** All that the pointer names; `undefined` without a pointer, or while an earlier generation is pinned. */
  readonly readConfig: () => Promise<ConfigReading | undefined>;
  /** What was last read from or written to KV; `undefined` before the first call and after a failure. */
  readonly current: () => { readonly pointer: Pointer | undefined; readonly history: History } | undefined;
  /** Forgets what is known, so that the next call reads KV anew (a new term has begun). */
  readonly forget: () => void;
}

export function createPublication(options: PublishOptions): Publication {
  const { client, keys, now } = options;
  let state: StoredState | undefined;
  /** As it stands in KV, but for the day's writes. */
  let savedHistory: string | undefined;
  /** Survives failures, see `mergeHistories`. */
  let rememberedHistory: History | undefined;

  /** Runs one operation; whatever fails, what we know is not trusted afterwards. */
  const guarded = async <T>(operation: () => Promise<T>): Promise<T> => {
    try {
      return await operation();
    } catch (error) {
      rememberAndForget();
      throw error;
    }
  };
  const rememberAndForget = (): void => {
    rememberedHistory = state?.history ?? rememberedHistory;
    state = undefined;
  };

  const load = async (): Promise<StoredState> => {
    if (state !== undefined) return state;
    const [pointerText, historyText, names] = await Promise.all([
      client.get(POINTER_KEY),
      client.get(HISTORY_KEY),
      client.list("s/"),
    ]);
    const listed = new Set(names.filter(isShardName));
    const read = await decodeHistory(historyText, keys);
    savedHistory = historyText === undefined ? undefined : encodeHistory(read);
    const writes = writesIn(historyText);
    if (writes !== undefined) options.budget?.resume(writes);
    const { pointer, seen } = await readPointer(pointerText, keys, read.pointers);
    const current =
      pointer === undefined || pointerText === undefined ? undefined : { pointer, text: pointerText };
    const history = mergeHistories(read, rememberedHistory, current);
    // Only what the pointer names counts as stored: a list may lag behind a deletion by a minute.
    const shards = new Set(
      (pointer === undefined ? [] : shardsOf(pointer)).filter((name) => listed.has(name)),
    );
    // Orphans of a crash, and shards retired after the history was last written: their grace begins now.
    const retiredAtMs = new Map(
      [...history.retiredAtMs].filter(([name]) => listed.has(name) && !shards.has(name)),
    );
    for (const name of listed) if (!shards.has(name) && !retiredAtMs.has(name)) retiredAtMs.set(name, now());
    state = { pointerText, pointer, seen, shards, history: { ...history, retiredAtMs } };
    return state;
  };

  const fence = (seen: StoredState["seen"]): void => {
    const own = options.epoch?.();
    if (own !== undefined && seen.epoch > own) {
      throw new DeposedError(
        `The pointer is of epoch ${seen.epoch}, this publisher leads in epoch ${own}: another one has taken over.`,
      );
    }
  };

  /**
   * Whether nobody but us has moved the pointer; if somebody has, what we know is forgotten. A read may lag
   * behind our own write, so only a pointer that supersedes ours is somebody else's. What is damaged, missing
   * or older is about to be overwritten, and that is right.
   */
  const pointerIsOurs = async (known: StoredState): Promise<boolean> => {
    const text = await client.get(POINTER_KEY);
    if (text === known.pointerText) return true;
    const reading = text === undefined ? undefined : await decodePointer(text, keys);
    const isLater =
      reading?.kind === "pointer" &&
      (known.pointer === undefined || supersedes(reading.loaded.pointer, known.pointer));
    if (!isLater) return true;
    rememberAndForget();
    return false;
  };

  const write = async (
    directory: ShardDirectory,
    texts: ReadonlyMap<ShardName, string>,
  ): Promise<PublishResult> => {
    for (let attempt = 0; attempt < MAX_RESTARTS; attempt++) {
      const known = await load();
      fence(known.seen);
      const missing = new Map(
        shardsOf(directory).flatMap((name): [ShardName, string][] => {
          const text = known.shards.has(name) ? undefined : texts.get(name);
          return text === undefined ? [] : [[name, text]];
        }),
      );
      const same = known.pointer !== undefined && sameDirectory(known.pointer, directory);
      if (same && missing.size === 0) return { kind: "unchanged", pointer: known.pointer };
      options.budget?.admit(missing.size + (same ? 0 : 1));
      await client.putAll(missing);
      const shards = new Set([...known.shards, ...missing.keys()]);
      state = { ...known, shards };
      if (same) return { kind: "published", pointer: known.pointer, ...sizes(missing) };

      await options.beforePointer?.();
      if (!(await pointerIsOurs(state))) continue;
      fence(known.seen);
      const pointer: Pointer = {
        version: EDGE_CONFIG_VERSION,
        generation: known.seen.generation + 1,
        epoch: Math.max(options.epoch?.() ?? 0, known.seen.epoch),
        // Beyond the one before even if the clock was set back: readers order pointers by it.
        createdAt: new Date(Math.max(now(), known.seen.createdAtMs + 1)).toISOString(),
        ...(directory.clusters === undefined ? {} : { clusters: directory.clusters }),
        ...(directory.policies === undefined ? {} : { policies: directory.policies }),
        exact: directory.exact,
        wildcard: directory.wildcard,
        ...(directory.any === undefined ? {} : { any: directory.any }),
      };
      const text = await encodePointer(pointer, keys);
      try {
        await client.put(POINTER_KEY, text);
      } finally {
        options.afterPointer?.();
      }
      state = {
        pointerText: text,
        pointer,
        seen: {
          generation: pointer.generation,
          epoch: pointer.epoch,
          createdAtMs: Date.parse(pointer.createdAt),
        },
        shards: new Set(shardsOf(pointer)),
        history: advanceHistory(known.history, known.pointer, { pointer, text }, now()),
      };
      return { kind: "published", pointer, ...sizes(missing) };
    }
    throw new DeposedError(
      "The pointer was moved by somebody else three times in a row: two publishers write to one namespace.",
    );
  };

  const saveHistory = async (): Promise<void> => {
    const known = await load();
    const text = encodeHistory(known.history);
    if (text === savedHistory) return;
    fence(known.seen);
    await client.put(HISTORY_KEY, encodeHistory(known.history, options.budget?.writes()));
    savedHistory = text;
  };

  const publish = async (set: ShardSet): Promise<PublishResult> => {
    const { pinned } = (await load()).history;
    return pinned === undefined ? write(set.directory, set.shards) : { kind: "pinned", generation: pinned };
  };

  return {
    publish: (set) => guarded(() => publish(set)),
    verify: (set) =>
      guarded(async () => {
        rememberAndForget();
        const { pinned, pointers } = (await load()).history;
        const last = pointers.at(-1);
        return pinned !== undefined && last !== undefined ? write(last.pointer, new Map()) : publish(set);
      }),
    sweep: () =>
      guarded(async () => {
        const known = await load();
        if (known.pointer === undefined) return 0; // Without a pointer nobody knows what is in use.
        const expired = expiredShards(known.history, known.pointer, now(), options.graceMs);
        if (expired.length === 0) return 0;
        // Whoever was deposed meanwhile must not delete what the new leader may use.
        if ((await client.get(POINTER_KEY)) !== known.pointerText) return 0;
        fence(known.seen);
        await client.deleteAll(expired);
        const retiredAtMs = new Map(known.history.retiredAtMs);
        for (const name of expired) retiredAtMs.delete(name);
        state = { ...known, history: { ...known.history, retiredAtMs } };
        await saveHistory();
        return expired.length;
      }),
    saveHistory: () => guarded(saveHistory),
    rollback: (generation) =>
      guarded(async () => {
        const known = await load();
        const target = known.history.pointers.find(({ pointer }) => pointer.generation === generation);
        if (target === undefined) {
          const kept = known.history.pointers.map(({ pointer }) => pointer.generation).join(", ");
          throw new RangeError(`Generation ${generation} is not kept; kept are ${kept || "none"}.`);
        }
        const listed = new Set(await client.list("s/"));
        const lost = shardsOf(target.pointer).filter((name) => !listed.has(name));
        if (lost.length > 0) {
          throw new RangeError(
            `Generation ${generation} cannot come back: ${lost.length} of its shards are gone.`,
          );
        }
        const result = await write(target.pointer, new Map());
        const after = await load();
        state = { ...after, history: { ...after.history, pinned: generation } };
        await saveHistory();
        return result;
      }),
    unpin: () =>
      guarded(async () => {
        const known = await load();
        const { pinned: _, ...history } = known.history;
        state = { ...known, history };
        await saveHistory();
      }),
    read: () => guarded(async () => (await load()).pointer),
    readConfig: () =>
      guarded(async () => {
        const { pointer, history } = await load();
        return pointer === undefined || history.pinned !== undefined
          ? undefined
          : await readConfig(client, pointer, keys);
      }),
    current: () => state && { pointer: state.pointer, history: state.history },
    forget: () => {
      state = undefined;
      rememberedHistory = undefined;
    },
  };
}

function sizes(written: ReadonlyMap<ShardName, string>): {
  writtenShards: readonly ShardName[];
  writtenBytes: number;
} {
  let writtenBytes = 0;
  for (const text of written.values()) writtenBytes += text.length;
  return { writtenShards: [...written.keys()], writtenBytes };
}

/**
 * The pointer if the keys accept it, and the numbers to go beyond. Only accepted pointers count: somebody
 * who can write to KV but lacks the key must not push the epoch to where no leader can follow.
 */
async function readPointer(
  text: string | undefined,
  keys: ConfigKeys | undefined,
  earlier: readonly WrittenPointer[],
): Promise<Pick<StoredState, "pointer" | "seen">> {
  const reading = text === undefined ? undefined : await decodePointer(text, keys);
  const pointer = reading?.kind === "pointer" ? reading.loaded.pointer : undefined;
  const all = earlier.map((one) => one.pointer);
  if (pointer !== undefined) all.push(pointer);
  return {
    pointer,
    seen: {
      generation: Math.max(0, ...all.map((one) => one.generation)),
      epoch: Math.max(0, ...all.map((one) => one.epoch)),
      createdAtMs: Math.max(0, ...all.map((one) => Date.parse(one.createdAt))),
    },
  };
}
