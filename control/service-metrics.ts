/** The names of all metrics of the control service, in one place. */

import type { Budget } from "./kv/budget.ts";
import type { KvCall, KvOutcome } from "./kv/client.ts";
import type { PublisherEvent } from "./kv/publisher.ts";
import type { Metrics } from "./metrics.ts";
import type { ControlView } from "./view.ts";

export interface ServiceMetrics {
  readonly kvCall: (call: KvCall, outcome: KvOutcome, durationMs: number) => void;
  readonly publisherEvent: (event: PublisherEvent) => void;
  /** From the first change of a state to its compilation. */
  readonly gathered: (durationMs: number) => void;
  readonly compiled: (durationMs: number) => void;
  readonly heldBack: () => void;
  /** Begins to read what is measured when asked for. */
  readonly observe: (view: ControlView, budget: Budget) => void;
  readonly text: () => string;
}

export function createServiceMetrics(metrics: Metrics): ServiceMetrics {
  const calls = metrics.counter(
    "fairlead_control_kv_calls_total",
    "Calls to the KV API, by kind and outcome.",
  );
  const writes = metrics.counter(
    "fairlead_control_kv_writes_total",
    "Keys written or deleted by calls that succeeded.",
  );
  const callSeconds = metrics.histogram(
    "fairlead_control_kv_call_duration_seconds",
    "Duration of calls to the KV API.",
  );
  const events = metrics.counter("fairlead_control_publications_total", "Runs of the publisher, by result.");
  const stages = metrics.histogram(
    "fairlead_control_stage_duration_seconds",
    "Where the time of a change went: gather (from its arrival), compile, wait (debounce), cut (into shards), write (to KV).",
  );
  const swept = metrics.counter(
    "fairlead_control_swept_shards_total",
    "Old shards deleted after their grace time.",
  );
  const heldBack = metrics.counter(
    "fairlead_control_held_back_total",
    "Times that a call or a run waited for the budget.",
  );
  let publishedAtSeconds = 0;

  return {
    kvCall: ({ kind, writes: keys }, outcome, durationMs) => {
      calls.add(1, { kind, outcome });
      callSeconds.observe(durationMs / 1_000, { kind });
      if (outcome === "ok") writes.add(keys);
    },
    publisherEvent: (event) => {
      if (event.kind === "swept") swept.add(event.shards);
      else events.add(1, { result: event.kind });
      if (event.kind !== "published") return;
      publishedAtSeconds = Date.now() / 1_000;
      stages.observe(event.timings.waitedMs / 1_000, { stage: "wait" });
      stages.observe(event.timings.cutMs / 1_000, { stage: "cut" });
      stages.observe(event.timings.writeMs / 1_000, { stage: "write" });
    },
    gathered: (durationMs) => stages.observe(durationMs / 1_000, { stage: "gather" }),
    compiled: (durationMs) => stages.observe(durationMs / 1_000, { stage: "compile" }),
    heldBack: () => heldBack.add(1),
    observe: (view, budget) => {
      const one = (value: number | undefined): readonly [Record<string, string>, number][] =>
        value === undefined ? [] : [[{}, value]];
      metrics.gauge("fairlead_control_ready", "1 when the edge is kept in step with every cluster.", () =>
        one(view.notReady() === undefined ? 1 : 0),
      );
      metrics.gauge("fairlead_control_leading", "1 when this replica publishes.", () =>
        one(view.publisher.status().leading ? 1 : 0),
      );
      metrics.gauge("fairlead_control_generation", "Generation of the pointer in KV.", () =>
        one(view.publisher.status().generation),
      );
      metrics.gauge("fairlead_control_pending", "1 while a configuration waits to be published.", () =>
        one(view.publisher.status().pending ? 1 : 0),
      );
      metrics.gauge(
        "fairlead_control_last_publication_timestamp_seconds",
        "When this replica published last.",
        () => one(publishedAtSeconds || undefined),
      );
      metrics.gauge("fairlead_control_hosts", "Hosts at the edge.", () => one(view.edge()?.hosts.size));
      metrics.gauge("fairlead_control_backends", "Backends at the edge.", () =>
        one(view.edge()?.backends.size),
      );
      metrics.gauge("fairlead_control_cluster_ingresses", "Ingresses of a cluster.", () =>
        view.clusters().map(({ name, model }) => [{ cluster: name }, model?.ingresses.size ?? 0]),
      );
      metrics.gauge(
        "fairlead_control_cluster_healthy",
        "1 when a cluster's state is here and its source has no problem.",
        () =>
          view
            .clusters()
            .map(({ name, model, problem }) => [
              { cluster: name },
              model !== undefined && problem === undefined ? 1 : 0,
            ]),
      );
      metrics.gauge("fairlead_control_diagnostics", "Diagnostics, by cluster and severity.", () => {
        const counts = new Map<string, readonly [Record<string, string>, number]>();
        for (const { cluster, severity } of view.edge()?.diagnostics ?? []) {
          const key = `${cluster} ${severity}`;
          counts.set(key, [{ cluster, severity }, (counts.get(key)?.[1] ?? 0) + 1]);
        }
        return [...counts.values()];
      });
      metrics.gauge(
        "fairlead_control_kv_calls_in_five_minutes",
        "Calls that count against the API's limit.",
        () => one(budget.used().callsInFiveMinutes),
      );
      metrics.gauge(
        "fairlead_control_kv_writes_today",
        "Keys written or deleted since midnight UTC, by this process.",
        () => one(budget.used().writesToday),
      );
      metrics.gauge("process_resident_memory_bytes", "Resident memory.", () =>
        one(process.memoryUsage.rss()),
      );
    },
    text: metrics.text,
  };
}
