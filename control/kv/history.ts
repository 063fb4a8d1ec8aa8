/**
 * The history key: what the control service must still know after a restart, and no Worker reads.
 *
 * It holds the last pointers as they were written (so a rollback can name one, and their signatures stay
 * checkable), since when each shard is out of use (so it is deleted a grace time later, and not before), and what of the
 * day's writes is spent.
 * It is written rarely; what a crash loses of it only delays a deletion or shortens the list of pointers.
 */

import { z } from "zod";
import type { ConfigKeys } from "../../edge-config/config-keys.ts";
import { decodePointer, type Pointer, shardsOf } from "../../edge-config/pointer.ts";
import { isShardName, type ShardName } from "../../edge-config/shard.ts";
import type { DaysWrites } from "./budget.ts";

/** Key in KV. */
export const HISTORY_KEY = "history";

/** How many earlier pointers stay fit for a rollback. */
export const KEPT_GENERATIONS = 10;

/** A pointer and the very text that stands, or stood, in KV: its signature covers those bytes. */
export interface WrittenPointer {
  readonly pointer: Pointer;
  readonly text: string;
}

export interface History {
  /** Newest last; the current one is the last. */
  readonly pointers: readonly WrittenPointer[];
  /** Since when a stored shard is named by no current pointer, in milliseconds since 1970. */
  readonly retiredAtMs: ReadonlyMap<ShardName, number>;
  /** The generation that an operator has gone back to; newer configurations wait until he lets them pass. */
  readonly pinned?: number;
}

export const NO_HISTORY: History = { pointers: [], retiredAtMs: new Map() };

const stored = z.object({
  version: z.literal(1),
  pointers: z.array(z.string()),
  retired: z.array(z.tuple([z.string(), z.number()])),
  pinned: z.number().optional(),
  writes: z.object({ day: z.number(), count: z.number() }).optional(),
});

/** `writes` is no part of what makes two histories differ: saving one is a write itself. */
export function encodeHistory({ pointers, retiredAtMs, pinned }: History, writes?: DaysWrites): string {
  return JSON.stringify({
    version: 1,
    pointers: pointers.map(({ text }) => text),
    retired: [...retiredAtMs],
    ...(pinned === undefined ? {} : { pinned }),
    ...(writes === undefined ? {} : { writes }),
  } satisfies z.input<typeof stored>);
}

/** What a history tells of the day's writes; `undefined` where it does not. */
export function writesIn(text: string | undefined): DaysWrites | undefined {
  try {
    const parsed = stored.safeParse(JSON.parse(text ?? "null"));
    return parsed.success ? parsed.data.writes : undefined;
  } catch {
    return undefined;
  }
}

/** Reads a history; an unreadable one is an empty one, and pointers that fail their signature are left out. */
export async function decodeHistory(
  text: string | undefined,
  keys: ConfigKeys | undefined,
): Promise<History> {
  let value: unknown;
  try {
    value = JSON.parse(text ?? "null");
  } catch {
    return NO_HISTORY;
  }
  const parsed = stored.safeParse(value);
  if (!parsed.success) return NO_HISTORY;
  const pointers: WrittenPointer[] = [];
  for (const pointerText of parsed.data.pointers) {
    const reading = await decodePointer(pointerText, keys);
    if (reading.kind === "pointer") pointers.push({ pointer: reading.loaded.pointer, text: pointerText });
  }
  const retired = parsed.data.retired.filter((entry): entry is [ShardName, number] => isShardName(entry[0]));
  const { pinned } = parsed.data;
  return { pointers, retiredAtMs: new Map(retired), ...(pinned === undefined ? {} : { pinned }) };
}

/**
 * What KV holds, completed by what this process knows beyond it: the history is written rarely, and a
 * failure must not cost the pointers and times since. Where both speak of a generation, KV is right.
 */
export function mergeHistories(
  read: History,
  remembered: History | undefined,
  current: WrittenPointer | undefined,
): History {
  const pointers = new Map<number, WrittenPointer>();
  for (const source of [remembered?.pointers ?? [], read.pointers, current === undefined ? [] : [current]]) {
    for (const written of source) pointers.set(written.pointer.generation, written);
  }
  const retiredAtMs = new Map(read.retiredAtMs);
  for (const [shard, atMs] of remembered?.retiredAtMs ?? []) {
    retiredAtMs.set(shard, Math.max(atMs, retiredAtMs.get(shard) ?? 0));
  }
  const sorted = [...pointers.values()].sort(
    (left, right) => left.pointer.generation - right.pointer.generation,
  );
  return { ...read, pointers: sorted.slice(-(KEPT_GENERATIONS + 1)), retiredAtMs };
}

/** The history after a pointer was written over the one before it. */
export function advanceHistory(
  history: History,
  before: Pointer | undefined,
  written: WrittenPointer,
  nowMs: number,
): History {
  const retiredAtMs = new Map(history.retiredAtMs);
  if (before !== undefined) {
    for (const shard of shardsOf(before)) if (!retiredAtMs.has(shard)) retiredAtMs.set(shard, nowMs);
  }
  for (const shard of shardsOf(written.pointer)) retiredAtMs.delete(shard);
  const others = history.pointers.filter(({ pointer }) => pointer.generation !== written.pointer.generation);
  return { ...history, pointers: [...others, written].slice(-(KEPT_GENERATIONS + 1)), retiredAtMs };
}

/** The shards whose grace time is over and which no kept pointer names. */
export function expiredShards(
  history: History,
  current: Pointer,
  nowMs: number,
  graceMs: number,
): readonly ShardName[] {
  const needed = new Set(shardsOf(current));
  for (const { pointer } of history.pointers) for (const shard of shardsOf(pointer)) needed.add(shard);
  const expired: ShardName[] = [];
  for (const [shard, sinceMs] of history.retiredAtMs) {
    if (nowMs - sinceMs >= graceMs && !needed.has(shard)) expired.push(shard);
  }
  return expired;
}
