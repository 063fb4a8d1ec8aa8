/**
 * Follows a cluster through its API server.
 *
 * In: which kinds, which namespaces, and a function that tells which Secrets and ConfigMaps a model names. Out: a
 * model, the first one once every list is complete, then one soon after each change. Serves the control service and the
 * node agent, which differ in the kinds they ask for.
 *
 * After a first change the model is told at once; further ones wait a moment, the longer the more of them come
 * (`distanceAfter`), so that a storm of changes costs a few models a second.
 */

import type { Diagnostic } from "../diagnostic.ts";
import { later } from "../later.ts";
import type { ClusterModel, KubernetesObject, ObjectName } from "../model.ts";
import type { KubernetesApi } from "./api.ts";
import type { BackoffLimits } from "./backoff.ts";
import type { WatchedKind } from "./kinds.ts";
import { RESOURCES } from "./kinds.ts";
import { createLiveModel } from "./live-model.ts";
import { createNamedObjects, type NamedObjects } from "./named-objects.ts";
import { followPulse, PULSE, type PulseSettings } from "./pulse.ts";
import {
  type RawObject,
  type Reflector,
  type ReflectorNote,
  type ReflectorSink,
  type ReflectorTarget,
  startReflector,
} from "./reflector.ts";

export interface ClusterSnapshot {
  readonly model: ClusterModel;
  readonly diagnostics: readonly Diagnostic[];
  /** When the first change arrived that is in this model and not in the one before; milliseconds since 1970. */
  readonly receivedAtMs: number;
  /** Optional kinds of which nothing is known yet. */
  readonly missing: ReadonlySet<WatchedKind>;
}

export interface NamedReferences {
  readonly secrets: ReadonlySet<ObjectName>;
  readonly configMaps: ReadonlySet<ObjectName>;
}

export interface ClusterWatchOptions {
  readonly api: KubernetesApi;
  /** Watched whole. */
  readonly kinds: readonly Exclude<WatchedKind, "Secret" | "ConfigMap">[];
  /**
   * The first model waits for these, too, but neither where the server refuses them nor for long: then they are missing in it,
   * and join when they come.
   */
  readonly optional?: readonly WatchedKind[] | undefined;
  /** Absent: all of the cluster. */
  readonly namespaces?: readonly string[] | undefined;
  /** Kubernetes label selectors, by kind. */
  readonly labelSelectors?: Partial<Record<WatchedKind, string>> | undefined;
  /** Kubernetes field selectors, by kind: a node follows its own Node only. */
  readonly fieldSelectors?: Partial<Record<WatchedKind, string>> | undefined;
  /** What of Secrets and ConfigMaps is needed; absent: nothing. Asked anew for every model. */
  readonly references?: ((model: ClusterModel) => NamedReferences) | undefined;
  readonly onSnapshot: (snapshot: ClusterSnapshot) => void;
  /** What of an object is kept; absent: all of it. */
  readonly keep?: ((object: KubernetesObject) => KubernetesObject) | undefined;
  /** Every object as it came; `undefined`: it was deleted. */
  readonly onRaw?: ((kind: WatchedKind, name: string, raw: RawObject | undefined) => void) | undefined;
  readonly onNote?: ((kind: WatchedKind, note: ReflectorNote) => void) | undefined;
  /** Between two models, in milliseconds; absent: by how many changes come. */
  readonly distanceMs?: number | undefined;
  readonly pulse?: PulseSettings | undefined;
  readonly backoff?: BackoffLimits | undefined;
}

export interface WatchStatus {
  readonly kind: WatchedKind;
  readonly listed: boolean;
  readonly objects: number;
  /** Absent: connected. */
  readonly trouble?: { readonly sinceMs: number; readonly message: string };
}

export interface ClusterWatch {
  /** One for each kind. */
  readonly status: () => readonly WatchStatus[];
  /** One sentence when anything is wrong. */
  readonly problem: () => string | undefined;
  readonly close: () => void;
}

/** Between two models, in milliseconds, where changes are few. */
const SHORTEST_DISTANCE_MS = 20;
/** However many changes come, none waits longer for its model. */
const LONGEST_DISTANCE_MS = 200;
const DISTANCE_A_CHANGE_MS = 2;

/** How long the next model waits after one that held so many changes: 25 ms where 100 come a second, 200 ms from 450 on. */
export function distanceAfter(changes: number): number {
  return Math.min(LONGEST_DISTANCE_MS, SHORTEST_DISTANCE_MS + DISTANCE_A_CHANGE_MS * changes);
}

/** How long a model waits for objects that it names for the first time, and the first one for optional kinds. */
const LONGEST_WAIT_MS = 5_000;

export function watchCluster(options: ClusterWatchOptions): ClusterWatch {
  const { api, references, onRaw, onNote, optional = [] } = options;
  const distance = (): number => options.distanceMs ?? distanceAfter(lastChanges);
  const live = createLiveModel(options.keep);
  const stopping = new AbortController();
  let dirtySinceMs: number | undefined;
  let lastToldMs = Number.NEGATIVE_INFINITY;
  /** In the model that was told last, and since then. */
  let lastChanges = 0;
  let changes = 0;
  let isFirst = true;
  /** In the model that was told last. */
  let missing: ReadonlySet<WatchedKind> = new Set();
  /** The next model, where one is due. */
  let callOff: (() => void) | undefined;
  let waitTimer: NodeJS.Timeout | undefined;
  const startedMs = new WeakMap<Reflector, number>();

  const changed = (): void => {
    dirtySinceMs ??= Date.now();
    changes++;
    schedule();
  };
  const schedule = (): void => {
    if (callOff !== undefined || stopping.signal.aborted) return;
    callOff = later(lastToldMs + distance() - performance.now(), () => {
      callOff = undefined;
      tell();
    });
  };

  const sink: ReflectorSink = {
    put: (kind, name, raw) => {
      onRaw?.(kind, name, raw);
      if (live.put(kind, name, raw)) changed();
    },
    delete: (kind, name) => {
      onRaw?.(kind, name, undefined);
      if (live.delete(kind, name)) changed();
    },
    listed: () => {
      // Something may have waited for it; without a change there is nothing to tell, but for the very first time.
      if (isFirst || missing.size > 0) changed();
      else if (dirtySinceMs !== undefined) schedule();
    },
    noted: () => {},
  };
  const start = (target: ReflectorTarget): Reflector => {
    const noted = (note: ReflectorNote): void => {
      onNote?.(target.kind, note);
      // What is refused is waited for no longer.
      if (note.kind === "disconnected" && note.isRefused && dirtySinceMs !== undefined) schedule();
    };
    const ownSink = { ...sink, noted };
    const reflector = startReflector(api, target, ownSink, options.backoff);
    startedMs.set(reflector, performance.now());
    return reflector;
  };

  const whole = options.kinds.flatMap((kind) => {
    const labelSelector = options.labelSelectors?.[kind];
    const fieldSelector = options.fieldSelectors?.[kind];
    const namespaces = RESOURCES[kind].isNamespaced ? (options.namespaces ?? [undefined]) : [undefined];
    return namespaces.map((namespace) => start({ kind, namespace, labelSelector, fieldSelector }));
  });
  const named: { readonly secrets: NamedObjects; readonly configMaps: NamedObjects } = {
    secrets: createNamedObjects("Secret", start),
    configMaps: createNamedObjects("ConfigMap", start),
  };
  const reflectors = (): readonly Reflector[] => [
    ...whole,
    ...named.secrets.reflectors(),
    ...named.configMaps.reflectors(),
  ];

  const isOptional = ({ target }: Reflector): boolean => optional.includes(target.kind);

  /** Tells the model, unless something is still missing in it. */
  const tell = (): void => {
    if (dirtySinceMs === undefined) return;
    if (!whole.every((reflector) => reflector.isListed() || isOptional(reflector))) return;
    if (references !== undefined) {
      const { secrets, configMaps } = references(live.snapshot().model);
      named.secrets.want(secrets);
      named.configMaps.want(configMaps);
    }
    if (waitsForMore()) return;
    missing = new Set(
      reflectors()
        .filter((reflector) => isOptional(reflector) && !reflector.isListed())
        .map(({ target }) => target.kind),
    );
    const receivedAtMs = dirtySinceMs;
    dirtySinceMs = undefined;
    isFirst = false;
    lastChanges = changes;
    changes = 0;
    lastToldMs = performance.now();
    options.onSnapshot({ ...live.snapshot(), receivedAtMs, missing });
  };
  /**
   * The first model waits for ever for what is not optional; a later one not so long that one forbidden Secret would hold
   * everything up.
   */
  const waitsForMore = (): boolean => {
    const awaited = reflectors().filter(
      (reflector) => !reflector.isListed() && !(isOptional(reflector) && reflector.isRefused()),
    );
    if (awaited.length === 0) return false;
    if (isFirst && !awaited.every(isOptional)) return true;
    const youngestMs = Math.max(...awaited.map((reflector) => startedMs.get(reflector) ?? 0));
    const leftMs = youngestMs + LONGEST_WAIT_MS - performance.now();
    if (leftMs <= 0) return false;
    clearTimeout(waitTimer);
    waitTimer = setTimeout(tell, leftMs);
    return true;
  };

  let lost: string | undefined;
  void followPulse(
    api,
    options.pulse ?? PULSE,
    {
      lost: (message) => {
        lost = message;
      },
      back: () => {
        lost = undefined;
        for (const reflector of reflectors()) reflector.wake();
      },
    },
    stopping.signal,
  );

  const status = (): readonly WatchStatus[] => {
    const byKind = new Map<WatchedKind, WatchStatus>();
    for (const reflector of reflectors()) {
      const { kind } = reflector.target;
      const before = byKind.get(kind);
      const trouble = earliest(before?.trouble, reflector.trouble());
      byKind.set(kind, {
        kind,
        listed: (before?.listed ?? true) && reflector.isListed(),
        objects: (before?.objects ?? 0) + reflector.size(),
        ...(trouble === undefined ? {} : { trouble }),
      });
    }
    return [...byKind.values()];
  };

  return {
    status,
    problem: () => {
      const troubled = status().filter(({ trouble }) => trouble !== undefined);
      const first = troubled.map(({ trouble }) => trouble).reduce(earliest, undefined);
      if (first === undefined)
        return lost === undefined ? undefined : `The API server does not answer: ${lost}.`;
      const kinds = troubled.map(({ kind }) => kind).join(", ");
      const since = new Date(first.sinceMs).toISOString();
      return `The watch on ${kinds} is disconnected since ${since}: ${first.message}.`;
    },
    close: () => {
      stopping.abort();
      callOff?.();
      clearTimeout(waitTimer);
      for (const reflector of reflectors()) reflector.stop();
    },
  };
}

type Trouble = WatchStatus["trouble"];

function earliest(left: Trouble, right: Trouble): Trouble {
  if (left === undefined || right === undefined) return left ?? right;
  return left.sinceMs <= right.sinceMs ? left : right;
}
