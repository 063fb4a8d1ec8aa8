/**
 * Decides when KV is brought to the newest configuration, and keeps trying until it is.
 *
 * In: configurations, as often as they come. Out: publications, one at a time, always of the newest one.
 * Here is the one debouncer (a burst becomes one publication), the distance between pointers, and the one
 * place where failed calls are repeated. Every repetition is a whole run (`publish.ts`), which reads KV
 * anew and does only what is missing, so a run may stop anywhere.
 */

import { later } from "../../cluster/later.ts";
import type { EdgeConfig } from "../../edge-config/config.ts";
import type { ConfigKeys } from "../../edge-config/config-keys.ts";
import type { Pointer } from "../../edge-config/pointer.ts";
import { type ConfigDelta, cutShards, type ShardSet } from "../../edge-config/shards.ts";
import type { KvClient } from "./client.ts";
import { KvError } from "./kv-error.ts";
import {
  createPublication,
  DeposedError,
  type Publication,
  type PublishOptions,
  type PublishResult,
} from "./publish.ts";
import type { ConfigReading } from "./read-config.ts";

export interface PublisherOptions {
  readonly client: KvClient;
  readonly keys?: ConfigKeys | undefined;
  /** The term of leadership; absent: this publisher is the only one and leads from the start. */
  readonly epoch?: (() => number) | undefined;
  readonly pace: PublisherPace;
  /** See `PublishOptions`. */
  readonly budget?: PublishOptions["budget"];
  readonly onEvent?: ((event: PublisherEvent) => void) | undefined;
  /** For the times that are written: milliseconds since 1970; the system's clock by default. */
  readonly now?: (() => number) | undefined;
}

/** All in milliseconds. */
export interface PublisherPace {
  /** From the first change of a burst to its publication. */
  readonly debounceMs: number;
  /** Between two pointers: Workers KV takes one write a second for a key. */
  readonly pointerDistanceMs: number;
  /** How long a shard outlives the last pointer that named it. */
  readonly graceMs: number;
  /** Between two rounds of upkeep: history saved, pointer verified, expired shards deleted. */
  readonly upkeepMs: number;
  /** How long reads and lists may lag behind our own writes; nothing is verified until then. */
  readonly lagMs: number;
  /** First and longest wait after a failure; it doubles in between, and is cut at random by up to a half. */
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
}

export const CLOUDFLARE_PACE: PublisherPace = {
  debounceMs: 2_000,
  pointerDistanceMs: 1_000,
  graceMs: 60 * 60_000,
  upkeepMs: 5 * 60_000,
  lagMs: 2 * 60_000,
  retryMinMs: 500,
  retryMaxMs: 60_000,
};

/** For the KV of `wrangler dev`, which has no limits and forgets nothing. */
export const LOCAL_PACE: PublisherPace = {
  debounceMs: 0,
  pointerDistanceMs: 0,
  graceMs: 10 * 60_000,
  upkeepMs: 30_000,
  lagMs: 0,
  retryMinMs: 50,
  retryMaxMs: 2_000,
};

export type PublisherEvent =
  | {
      readonly kind: "published";
      readonly result: Extract<PublishResult, { kind: "published" }>;
      readonly timings: PublicationTimings;
    }
  | { readonly kind: "unchanged" }
  | { readonly kind: "pinned"; readonly generation: number }
  | { readonly kind: "failed"; readonly error: Error; readonly retryInMs: number }
  /** The configuration broke its contract; nothing is written until another one comes. */
  | { readonly kind: "rejected"; readonly error: Error }
  | { readonly kind: "deposed"; readonly error: DeposedError }
  /** The pointer or a shard had been changed or lost, and was put back. */
  | { readonly kind: "repaired"; readonly result: Extract<PublishResult, { kind: "published" }> }
  | { readonly kind: "swept"; readonly shards: number }
  | { readonly kind: "upkeep-failed"; readonly error: Error };

/** How a configuration came about, in milliseconds. */
export interface SubmissionOrigin {
  /** From the arrival of its first change to its compilation. */
  readonly gatherMs: number;
  readonly compileMs: number;
}

/** Where the time of a burst's first change went, one after the other, in milliseconds. */
export interface PublicationTimings extends Partial<SubmissionOrigin> {
  /** For the burst to be over, for the budget, and for the publication before. */
  readonly waitedMs: number;
  /** Into shards. */
  readonly cutMs: number;
  /** To KV: shards, then the pointer. */
  readonly writeMs: number;
}

/** What may be known of a configuration beside itself. */
export interface Submission {
  /** See `ShardDirectory`. */
  readonly clusters?: readonly string[];
  /** Saves work where it is since the configuration that was submitted before. */
  readonly delta?: ConfigDelta;
  readonly origin?: SubmissionOrigin;
}

export interface PublisherStatus {
  readonly leading: boolean;
  /** Of the pointer that stands in KV, as far as known. */
  readonly generation?: number;
  readonly epoch?: number;
  readonly createdAt?: string;
  readonly pinned?: number;
  /** A configuration waits to be published, or is being written. */
  readonly pending: boolean;
  readonly lastError?: string;
}

export interface Publisher {
  /** Publishes this configuration soon, unless a newer one comes before. */
  readonly submit: (config: EdgeConfig, about?: Submission) => void;
  /** Resolves once nothing waits and nothing runs; while not leading, once nothing runs. */
  readonly settled: () => Promise<void>;
  /** Begins a term: KV is read anew and the newest configuration published at once. */
  readonly lead: () => void;
  /** Takes back a configuration that was submitted and not published yet. */
  readonly withdraw: () => void;
  /** Ends a term: nothing is written any more once a call under way is over. */
  readonly follow: () => void;
  readonly status: () => PublisherStatus;
  /** Reads the pointer that stands in KV, if that was not done yet; tries until it succeeds or the publisher is closed. */
  readonly read: () => Promise<Pointer | undefined>;
  /** Reads the configuration that stands in KV; tries as `read` does. See `Publication`. */
  readonly readConfig: () => Promise<ConfigReading | undefined>;
  /** The generations that `rollback` takes, newest first; empty before KV was first read. */
  readonly generations: () => readonly {
    readonly generation: number;
    readonly epoch: number;
    readonly createdAt: string;
  }[];
  /** See `Publication`; waits for its turn. */
  readonly rollback: (generation: number) => Promise<PublishResult>;
  readonly unpin: () => Promise<void>;
  /** Finishes the run under way, saves the history and stops. A configuration that still waits is not published. */
  readonly close: () => Promise<void>;
}

export function createPublisher(options: PublisherOptions): Publisher {
  const { client, keys, pace, onEvent = () => {}, now = Date.now } = options;
  // Distances are measured on the monotonic clock: the other one can be set back by a day.
  let lastPointerMs = Number.NEGATIVE_INFINITY;
  const publication: Publication = createPublication({
    client,
    keys,
    epoch: options.epoch,
    graceMs: pace.graceMs,
    budget: options.budget,
    now,
    beforePointer: async () => {
      const waitMs = (): number => lastPointerMs + pace.pointerDistanceMs - performance.now();
      while (waitMs() > 0) await sleep(waitMs()); // A timer may fire a little early.
    },
    // From the answer on: when KV took the one before, on its own clock, is not known any better.
    afterPointer: () => {
      lastPointerMs = performance.now();
    },
  });

  let newest: EdgeConfig | undefined;
  let clusters: readonly string[] | undefined;
  /** Of `newest`, since the configuration that was cut last; absent: not known. */
  let delta: ConfigDelta | undefined;
  let published: ShardSet | undefined;
  let lastSet: ShardSet | undefined;
  /** The first change that is not published yet. */
  let waiting: { readonly sinceMs: number; readonly origin?: SubmissionOrigin | undefined } | undefined;
  let isPublishing = false;
  let failures = 0;
  let lastError: string | undefined;
  let leading = options.epoch === undefined;
  let closed = false;
  /** The next run. */
  let callOff: () => void = () => {};
  let idle: (() => void)[] = [];
  /** Everything that touches KV runs in this one queue. */
  let queue: Promise<unknown> = Promise.resolve();
  let queued = 0;

  const enqueue = <T>(task: () => Promise<T>): Promise<T> => {
    queued++;
    const result = queue.then(task).finally(() => {
      queued--;
      announceIdle();
    });
    queue = result.catch(() => {}); // The caller has the rejection; the queue goes on.
    return result;
  };
  const persistently = async <T>(task: () => Promise<T>): Promise<T> => {
    for (let attempt = 0; ; attempt++) {
      try {
        return await enqueue(task);
      } catch (error) {
        if (closed) throw error;
        const retryInMs = retryDelayMs(error, attempt, pace);
        lastError = messageOf(error);
        onEvent({ kind: "failed", error: error as Error, retryInMs });
        await sleep(retryInMs);
      }
    }
  };
  const announceIdle = (): void => {
    if (queued > 0 || (leading && !closed && waiting !== undefined)) return;
    for (const resolve of idle) resolve();
    idle = [];
  };

  const schedule = (inMs: number): void => {
    callOff();
    if (closed || !leading) return;
    callOff = later(inMs, () => void enqueue(run));
  };

  const run = async (): Promise<void> => {
    const config = newest;
    const first = waiting;
    if (config === undefined || first === undefined || !leading || closed) return;
    waiting = undefined;
    isPublishing = true;
    try {
      await publishOnce(config, first);
    } finally {
      isPublishing = false;
    }
  };

  const publishOnce = async (config: EdgeConfig, first: NonNullable<typeof waiting>): Promise<void> => {
    const startedMs = performance.now();
    let set: ShardSet;
    try {
      const sinceLast = delta;
      delta = {
        since: config,
        hosts: new Map(),
        backends: new Map(),
        backend: (name) => (Object.hasOwn(config.backends, name) ? config.backends[name] : undefined),
      };
      set = await cutShards(config, { keys, previous: lastSet, clusters, delta: sinceLast });
      lastSet = set;
    } catch (error) {
      lastError = messageOf(error);
      onEvent({ kind: "rejected", error: error as Error });
      return;
    }
    const cutAtMs = performance.now();
    try {
      const result = await publication.publish(set);
      failures = 0;
      lastError = undefined;
      published = set;
      if (result.kind === "published") {
        const timings: PublicationTimings = {
          ...first.origin,
          waitedMs: startedMs - first.sinceMs,
          cutMs: cutAtMs - startedMs,
          writeMs: performance.now() - cutAtMs,
        };
        onEvent({ kind: "published", result, timings });
      } else {
        onEvent(result.kind === "unchanged" ? { kind: "unchanged" } : result);
      }
    } catch (error) {
      lastError = messageOf(error);
      waiting ??= first;
      if (error instanceof DeposedError) {
        leading = false;
        onEvent({ kind: "deposed", error });
        return;
      }
      const retryInMs = retryDelayMs(error, failures++, pace);
      onEvent({ kind: "failed", error: error as Error, retryInMs });
      schedule(retryInMs);
    }
  };

  const upkeep = async (): Promise<void> => {
    if (!leading || closed || published === undefined || failures > 0) return;
    try {
      if (performance.now() - lastPointerMs >= pace.lagMs) {
        const result = await publication.verify(published);
        if (result.kind === "published") onEvent({ kind: "repaired", result });
      }
      const shards = await publication.sweep();
      if (shards > 0) onEvent({ kind: "swept", shards });
      await publication.saveHistory();
    } catch (error) {
      onEvent({ kind: "upkeep-failed", error: error as Error });
    }
  };
  const upkeepTimer = setInterval(() => void enqueue(upkeep), pace.upkeepMs);
  upkeepTimer.unref();

  return {
    submit: (config, { clusters: names, delta: change, origin } = {}) => {
      if (config !== newest)
        delta =
          delta !== undefined && change !== undefined && change.since === newest
            ? joined(delta, change)
            : undefined;
      newest = config;
      clusters = names;
      const first = waiting === undefined;
      waiting ??= { sinceMs: performance.now(), origin };
      // While a retry is due, a newer configuration waits with it: a lock-out must not be knocked at.
      if (first && failures === 0) schedule(pace.debounceMs);
    },
    settled: () =>
      new Promise((resolve) => {
        idle.push(resolve);
        announceIdle();
      }),
    lead: () => {
      leading = true;
      failures = 0;
      publication.forget();
      if (newest !== undefined) waiting ??= { sinceMs: performance.now() };
      schedule(0);
    },
    withdraw: () => {
      newest = undefined;
      delta = undefined;
      waiting = undefined;
      callOff();
      announceIdle();
    },
    follow: () => {
      leading = false;
      callOff();
      announceIdle();
    },
    status: () => {
      const current = publication.current();
      const { pointer } = current ?? {};
      return {
        leading,
        ...(pointer === undefined
          ? {}
          : { generation: pointer.generation, epoch: pointer.epoch, createdAt: pointer.createdAt }),
        ...(current?.history.pinned === undefined ? {} : { pinned: current.history.pinned }),
        pending: waiting !== undefined || isPublishing,
        ...(lastError === undefined ? {} : { lastError }),
      };
    },
    read: () => persistently(() => publication.read()),
    readConfig: () => persistently(() => publication.readConfig()),
    generations: () =>
      (publication.current()?.history.pointers ?? [])
        .map(({ pointer: { generation, epoch, createdAt } }) => ({ generation, epoch, createdAt }))
        .reverse(),
    rollback: (generation) => enqueue(() => publication.rollback(generation)),
    unpin: async () => {
      await enqueue(() => publication.unpin());
      if (newest !== undefined) waiting ??= { sinceMs: performance.now() };
      schedule(0);
    },
    close: async () => {
      closed = true;
      callOff();
      clearInterval(upkeepTimer);
      await queue;
      if (leading && publication.current() !== undefined) await publication.saveHistory().catch(() => {});
      announceIdle();
    },
  };
}

function joined({ since, hosts, backends }: ConfigDelta, later: ConfigDelta): ConfigDelta {
  return {
    since,
    hosts: later.hosts.size === 0 ? hosts : new Map([...hosts, ...later.hosts]),
    backends: new Map([...backends, ...later.backends]),
    backend: later.backend,
  };
}

function retryDelayMs(error: unknown, failures: number, pace: PublisherPace): number {
  if (error instanceof KvError && error.retryAfterMs !== undefined) return error.retryAfterMs;
  const wait = Math.min(pace.retryMaxMs, pace.retryMinMs * 2 ** Math.min(failures, 20));
  return wait * (0.5 + Math.random() / 2);
}

function sleep(ms: number): Promise<void> {
  return ms <= 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, ms));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
