/**
 * Follows one collection of the API: a list, then a watch from the list's resource version, for ever.
 *
 * In: where to look. Out: objects put and deleted, by name; after a gap (410 Gone) only what differs. A list is the
 * newest state and never one from a server's cache, so what was seen never goes back in time.
 *
 * A watch ends now and then, by the server's clock or ours: it goes on from where it was. Whatever fails is tried
 * again, later each time, and at once when the connection is known to be back (`wake`).
 */

import { objectName } from "../object-name.ts";
import type { KubernetesApi } from "./api.ts";
import { ApiError, describeError, isGone } from "./api-error.ts";
import { type BackoffLimits, backoffMs, pause } from "./backoff.ts";
import { collectionPath, RESOURCES, type WatchedKind } from "./kinds.ts";

/** An object as JSON has it, with the part that every object has. */
export interface RawObject {
  readonly kind: string;
  readonly apiVersion: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion: string;
  };
}

/** `namespace/name`, or the bare name of a cluster-scoped object. */
export function rawName({ metadata }: RawObject): string {
  return metadata.namespace === undefined ? metadata.name : objectName(metadata.namespace, metadata.name);
}

export interface ReflectorTarget {
  readonly kind: WatchedKind;
  /** Absent: all. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** Which of the objects that come are wanted, by `namespace/name`; absent: all. */
  readonly wants?: ((name: string) => boolean) | undefined;
}

export interface ReflectorSink {
  readonly put: (kind: WatchedKind, name: string, raw: RawObject) => void;
  readonly delete: (kind: WatchedKind, name: string) => void;
  /** A list was taken over whole. */
  readonly listed: () => void;
  readonly noted: (note: ReflectorNote) => void;
}

/** For metrics and the log. */
export type ReflectorNote =
  | { readonly kind: "list"; readonly reason: "first" | "gone"; readonly objects: number }
  | { readonly kind: "event" }
  | { readonly kind: "connected" }
  | { readonly kind: "disconnected"; readonly message: string; readonly isRefused: boolean };

export interface Reflector {
  readonly target: ReflectorTarget;
  /** True once the first list is complete. */
  readonly isListed: () => boolean;
  /** Absent: connected. Otherwise since when it is not, in milliseconds since 1970, and why. */
  readonly trouble: () => { readonly sinceMs: number; readonly message: string } | undefined;
  /** The server answers, and does not give it: there is no right to it, or no such kind. */
  readonly isRefused: () => boolean;
  /** How many objects are there. */
  readonly size: () => number;
  /** Ends a wait: the server answers again. */
  readonly wake: () => void;
  /** Stops, and deletes every object that it had put. */
  readonly withdraw: () => void;
  readonly stop: () => void;
}

const PAGE = 500;
/** A watch is asked to last between one and two of these: servers restarted together are not asked together. */
const WATCH_SECONDS = 300;
/** A watch that lasted so long was no failure: the next wait is a short one again. */
const STEADY_MS = 30_000;
const REFUSALS: readonly number[] = [403, 404];

interface ListPage {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items: readonly RawObject[] | null;
}

export function startReflector(
  api: KubernetesApi,
  target: ReflectorTarget,
  sink: ReflectorSink,
  limits?: BackoffLimits,
): Reflector {
  const { kind } = target;
  const path = collectionPath(kind, target.namespace);
  const selectors = { labelSelector: target.labelSelector, fieldSelector: target.fieldSelector };
  const stopping = new AbortController();
  /** Resource versions. Another object that has taken a name has another one. */
  let known = new Map<string, KeptVersion>();
  let resourceVersion: string | undefined;
  let listed = false;
  let trouble: { readonly sinceMs: number; readonly message: string } | undefined;
  let refused = false;
  let waking = new AbortController();

  const connected = (): void => {
    refused = false;
    if (trouble === undefined) return;
    trouble = undefined;
    sink.noted({ kind: "connected" });
  };

  const put = (raw: RawObject): void => {
    const name = rawName(raw);
    if (target.wants !== undefined && !target.wants(name)) return;
    known.set(name, keptVersion(raw.metadata.resourceVersion));
    sink.put(kind, name, raw);
  };

  const list = async (): Promise<void> => {
    const found = new Map<string, KeptVersion>();
    const before = known;
    let listVersion: string | undefined;
    let next: string | undefined;
    let limit: string | undefined = String(PAGE);
    for (;;) {
      let page: ListPage;
      try {
        page = (await api.request({
          path,
          query: { ...selectors, limit, continue: next },
          signal: stopping.signal,
        })) as ListPage;
      } catch (error) {
        // The pages' snapshot was compacted away: one whole list has no such problem.
        if (!isGone(error) || next === undefined) throw error;
        next = undefined;
        limit = undefined;
        continue;
      }
      connected();
      listVersion = page.metadata.resourceVersion;
      for (const item of page.items ?? []) {
        const raw = { ...item, kind, apiVersion: RESOURCES[kind].apiVersion };
        const name = rawName(raw);
        if (target.wants !== undefined && !target.wants(name)) continue;
        const version = keptVersion(raw.metadata.resourceVersion);
        found.set(name, version);
        if (before.get(name) !== version) sink.put(kind, name, raw);
      }
      next = page.metadata.continue || undefined;
      if (next === undefined) break;
    }
    for (const name of before.keys()) if (!found.has(name)) sink.delete(kind, name);
    known = found;
    sink.noted({ kind: "list", reason: listed ? "gone" : "first", objects: found.size });
    resourceVersion = listVersion;
    listed = true;
    sink.listed();
  };

  const watch = async (): Promise<void> => {
    const lines = api.lines({
      path,
      query: {
        ...selectors,
        watch: "true",
        allowWatchBookmarks: "true",
        resourceVersion,
        timeoutSeconds: String(Math.round(WATCH_SECONDS * (1 + Math.random()))),
      },
      signal: stopping.signal,
    });
    for await (const some of lines) {
      connected();
      for (const line of some) if (line !== "") take(JSON.parse(line) as WatchEvent);
    }
  };

  const take = ({ type, object }: WatchEvent): void => {
    switch (type) {
      case "ADDED":
      case "MODIFIED":
        put(object);
        break;
      case "DELETED": {
        const name = rawName(object);
        if (known.delete(name)) sink.delete(kind, name);
        break;
      }
      case "BOOKMARK":
        resourceVersion = object.metadata.resourceVersion;
        return;
      case "ERROR": {
        const { code, message, reason } = object as unknown as {
          code?: number;
          message?: string;
          reason?: string;
        };
        throw new ApiError(message ?? "the watch failed", code ?? 500, reason ?? "");
      }
    }
    sink.noted({ kind: "event" });
    resourceVersion = object.metadata.resourceVersion;
  };

  const run = async (): Promise<void> => {
    for (let failures = 0; !stopping.signal.aborted; ) {
      const startedMs = performance.now();
      try {
        if (resourceVersion === undefined) await list();
        await watch();
        // A server that ends every watch at once must not be asked without a pause.
        if (performance.now() - startedMs < 1_000)
          await pause(backoffMs(failures++, limits), stopping.signal);
        else failures = 0;
      } catch (error) {
        if (stopping.signal.aborted) return;
        if (isGone(error)) {
          // Not a trouble: the list that follows closes the gap.
          const isFresh = performance.now() - startedMs < 1_000;
          if (isFresh) await pause(backoffMs(failures++, limits), stopping.signal);
          resourceVersion = undefined;
          continue;
        }
        if (performance.now() - startedMs > STEADY_MS) failures = 0;
        const message = describeError(error);
        const wasRefused = refused;
        refused = error instanceof ApiError && REFUSALS.includes(error.status);
        if (trouble === undefined || (refused && !wasRefused))
          sink.noted({ kind: "disconnected", message, isRefused: refused });
        trouble = { sinceMs: trouble?.sinceMs ?? Date.now(), message };
        const asked = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
        waking = new AbortController();
        await pause(
          Math.max(asked, backoffMs(failures++, limits)),
          AbortSignal.any([waking.signal, stopping.signal]),
        );
      }
    }
  };
  void run();

  return {
    target,
    isListed: () => listed,
    trouble: () => trouble,
    isRefused: () => refused,
    size: () => known.size,
    wake: () => waking.abort(),
    withdraw: () => {
      stopping.abort();
      for (const name of known.keys()) sink.delete(kind, name);
      known = new Map();
    },
    stop: () => stopping.abort(),
  };
}

type KeptVersion = string | number;

/** A number takes no memory of its own, and nearly all versions are one; to compare, either will do. */
function keptVersion(version: string): KeptVersion {
  const number = Number(version);
  return String(number) === version ? number : version;
}

interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: RawObject;
}
