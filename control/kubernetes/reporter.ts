/**
 * Talks back to the cluster, while this replica leads: the status of Ingresses, and Events about what is wrong.
 *
 * In: a view of the control service, whenever something was published. Out: patches and Events, few at a time and with
 * patience; what fails is tried again with the next round. One round runs at a time, at most one a second, and works on
 * the newest state.
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import { Turns } from "../../cluster/turns.ts";
import type { KubernetesApi } from "../../cluster/watch/api.ts";
import { describeError } from "../../cluster/watch/api-error.ts";
import { backoffMs, pause } from "../../cluster/watch/backoff.ts";
import type { ObjectName } from "../../edge-config/config.ts";
import type { EdgeReporter } from "../edge-reporter.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { ControlView } from "../view.ts";
import { type EventToTell, eventOf, tellEvent } from "./events.ts";
import { loadBalancerIngress, statusPatch, writeStatus } from "./ingress-status.ts";
import type { KubernetesSource } from "./source.ts";
import { tlsAdvice } from "./tls-advice.ts";

export interface ReporterOptions {
  readonly api: KubernetesApi;
  readonly source: KubernetesSource;
  readonly ingressClass: string | undefined;
  /** Names or IP addresses of the edge; empty: the status is left alone. */
  readonly addresses: readonly string[];
  readonly events: boolean;
  /** Of this replica, for Events. */
  readonly identity: string;
  readonly metrics: Metrics;
  readonly log: Log;
}

export interface KubernetesReporter extends EdgeReporter {
  readonly close: () => void;
}

/** Requests at a time: an API server has others to serve. */
const CONCURRENCY = 4;
/** New Events of one round; a cluster with more troubles has them in `/v1/diagnostics`. */
const MOST_EVENTS_A_ROUND = 500;
const RESYNC_MS = 60_000;
/**
 * A look takes every Ingress and host into account. Publications must not wait for it, so it comes no more often than
 * that, and in turns between which everything else gets its chance.
 */
const LOOK_DISTANCE_MS = 1_000;
const TURN_MS = 2;

export function createReporter(options: ReporterOptions): KubernetesReporter {
  const { api, source, ingressClass, addresses, identity, metrics, log } = options;
  const stopping = new AbortController();
  const written = metrics.counter(
    "fairlead_kubernetes_reports_total",
    "Requests that tell the cluster something, by kind and result.",
  );
  /** True: it stands. False: it was told once and has gone away since. */
  const told = new Map<string, boolean>();
  /** What waits to be told. */
  let view: ControlView | undefined;
  let lastView: ControlView | undefined;
  let running = false;
  let leading = false;
  let failures = 0;
  let lastLookMs = Number.NEGATIVE_INFINITY;

  const attempt = async (
    kind: "status" | "event",
    what: string,
    action: () => Promise<void>,
  ): Promise<boolean> => {
    if (!leading || stopping.signal.aborted) return false;
    try {
      await action();
      written.add(1, { cluster: source.cluster, kind, result: "ok" });
      return true;
    } catch (error) {
      written.add(1, { cluster: source.cluster, kind, result: "failed" });
      log.warning("the cluster could not be told", { kind, object: what, reason: describeError(error) });
      return false;
    }
  };

  /** What the last round was about in which all was told; the same again has nothing to tell. */
  let settled: readonly unknown[] = [];

  /** True when all was told. */
  const round = async (current: ControlView): Promise<boolean> => {
    const edge = current.edge();
    const model = current.clusters().find(({ name }) => name === source.cluster)?.model;
    if (edge === undefined || model === undefined) return true;
    const { ingresses, ingressClasses } = model;
    // Endpoints, which change most, are no part of it.
    const about = [ingresses, ingressClasses, edge.hosts, edge.diagnostics, source.statusChanges()];
    if (about.every((one, at) => one === settled[at])) return true;
    settled = [];
    const turns = new Turns(TURN_MS);
    const tasks: (() => Promise<boolean>)[] = [];

    if (addresses.length > 0) {
      const served = new Set<ObjectName>();
      await turns.each(edge.hosts.values(), ({ routes }) => {
        for (const { ingress } of routes) if (ingress !== undefined) served.add(ingress);
      });
      const rules = { classes: ingressClasses, ingressClass, wanted: loadBalancerIngress(addresses) };
      await turns.each(ingresses, ([name, ingress]) => {
        const patch = statusPatch(ingress, rules, served.has(name), source.ingressStatus(name));
        if (patch !== undefined) tasks.push(() => attempt("status", name, () => writeStatus(api, patch)));
      });
    }
    if (options.events) {
      const events = new Map<string, EventToTell>();
      const add = (diagnostic: Diagnostic): void => {
        const event = eventOf(model, diagnostic);
        if (event !== undefined && !events.has(event.key)) events.set(event.key, event);
      };
      await turns.each(edge.diagnostics, (one) => {
        if (one.cluster === source.cluster && one.severity !== "info") add(one);
      });
      await turns.each(ingresses.values(), (ingress) =>
        tlsAdvice(ingress, ingressClasses, ingressClass).forEach(add),
      );
      for (const key of told.keys()) if (!events.has(key)) told.set(key, false);
      const fresh = [...events.values()].filter(({ key }) => told.get(key) !== true);
      if (fresh.length > MOST_EVENTS_A_ROUND)
        log.warning("more is wrong than Events are told of", {
          diagnostics: fresh.length,
          told: MOST_EVENTS_A_ROUND,
        });
      for (const event of fresh.slice(0, MOST_EVENTS_A_ROUND)) tasks.push(() => tell(event));
      for (const { key } of fresh.slice(MOST_EVENTS_A_ROUND)) told.set(key, true);
    }
    const results = await inParallel(tasks, CONCURRENCY);
    if (!results.every(Boolean)) return false;
    settled = about;
    return true;
  };
  const tell = async (event: EventToTell): Promise<boolean> => {
    const isRepeated = told.get(event.key) === false;
    const isDone = await attempt("event", event.diagnostic.object, () =>
      tellEvent(api, event, identity, isRepeated),
    );
    if (isDone) told.set(event.key, true);
    return isDone;
  };

  const run = async (): Promise<void> => {
    if (running) return;
    running = true;
    try {
      while (view !== undefined && leading && !stopping.signal.aborted) {
        await pause(lastLookMs + LOOK_DISTANCE_MS - performance.now(), stopping.signal);
        lastLookMs = performance.now();
        const current = view;
        view = undefined;
        if (current === undefined) continue;
        if (await round(current)) failures = 0;
        else {
          view ??= current;
          await pause(backoffMs(failures++), stopping.signal);
        }
      }
    } finally {
      running = false;
    }
  };

  const published = (current: ControlView): void => {
    view = current;
    lastView = current;
    leading = true;
    void run().catch((error: unknown) => log.error(`talking to the cluster failed: ${describeError(error)}`));
  };
  // Somebody else may have written into a status, which changes nothing that is published.
  const again = setInterval(() => {
    if (leading && lastView !== undefined) published(lastView);
  }, RESYNC_MS);
  again.unref();

  return {
    published,
    following: () => {
      leading = false;
      settled = [];
      view = undefined;
    },
    close: () => {
      clearInterval(again);
      stopping.abort();
    },
  };
}

async function inParallel<T>(
  tasks: readonly (() => Promise<T>)[],
  concurrency: number,
): Promise<readonly T[]> {
  const results: T[] = [];
  const rest = tasks[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (const task of rest) results.push(await task());
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, tasks.length) }, worker));
  return results;
}
