/**
 * The control service: the steps in order, and nothing else.
 *
 * keys → KV client → publisher → API → leadership → the clusters that must be complete → states in,
 * publications out, until `stop` fires.
 *
 * In: settings, sources of cluster states, a log, a signal. Out: nothing, once everything has ended.
 */

import type { EdgeConfig } from "../edge-config/config.ts";
import { deriveConfigKeys } from "../edge-config/config-keys.ts";
import { createControlApi } from "./api.ts";
import type { ClusterSource, ClusterState } from "./cluster-source.ts";
import { createEdgeCompiler } from "./edge.ts";
import type { EdgeReporter } from "./edge-reporter.ts";
import { createBudget } from "./kv/budget.ts";
import { createKvClient } from "./kv/client.ts";
import { createDryRunClient } from "./kv/dry-run.ts";
import { createPublisher, type PublisherEvent } from "./kv/publisher.ts";
import type { Leadership, Term } from "./leadership.ts";
import { listen } from "./listen.ts";
import type { Log } from "./log.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { readOwnershipRules } from "./ownership.ts";
import { takeApart } from "./recovery.ts";
import { createService, type Service } from "./service.ts";
import { createServiceMetrics } from "./service-metrics.ts";
import type { ControlSettings } from "./settings.ts";
import { createTraces } from "./traces.ts";

export interface ControlOptions {
  readonly settings: ControlSettings;
  /** Clusters that are watched; others may be pushed. */
  readonly sources: readonly ClusterSource[];
  /** Absent: this replica is the only one and leads from the start. */
  readonly leadership?: Leadership;
  /** Told what was published, while this replica leads. */
  readonly reporter?: EdgeReporter;
  /** Where sources and reporters count, too; absent: a new one. */
  readonly metrics?: Metrics;
  readonly log: Log;
  /** Told once the API listens: `http://host:port`. */
  readonly onListening: (url: string) => void;
  readonly stop: AbortSignal;
}

/** Rejects when the service cannot start: a wrong key or policy, a port that is taken. */
export async function runControl({
  settings,
  sources,
  leadership,
  reporter,
  metrics: registry = createMetrics(),
  log,
  onListening,
  stop,
}: ControlOptions): Promise<void> {
  const rules = readOwnershipRules(settings.hostOwnership);
  const keys = settings.configKey === undefined ? undefined : await deriveConfigKeys(settings.configKey);
  if (keys === undefined) {
    log.warning(
      "FAIRLEAD_CONFIG_KEY is not set: pointers are not signed, and routes with secrets are denied",
    );
  }
  const metrics = createServiceMetrics(registry);
  const traces = settings.traces === undefined ? undefined : createTraces(settings.traces, log.warning);
  const budget = createBudget({
    callsInFiveMinutes: settings.kv.callsInFiveMinutes,
    writesADay: settings.kv.writesADay,
    now: Date.now,
    onHeldBack: (sentence) => {
      metrics.heldBack();
      log.warning(sentence);
    },
  });
  const client = createKvClient({ ...settings.kv, beforeCall: budget.beforeCall, onCall: metrics.kvCall });
  let epoch = 0;
  /** Counts changes of this replica's part: what was asked in one must not be answered in another. */
  let term = 0;
  const publisher = createPublisher({
    ...(leadership === undefined ? {} : { epoch: () => epoch }),
    client: settings.dryRun ? createDryRunClient(client, (sentence) => log.info(sentence)) : client,
    keys,
    pace: settings.pace,
    budget,
    onEvent: (event) => {
      metrics.publisherEvent(event);
      traces?.publisherEvent(event);
      logEvent(event, log);
      if (event.kind === "published" || event.kind === "unchanged" || event.kind === "pinned")
        reporter?.published(service.view);
      if (event.kind === "deposed") {
        term++;
        service.hold();
        reporter?.following();
      }
    },
  });
  const service: Service = createService({
    compiler: createEdgeCompiler(settings.compile, rules),
    publisher,
    sources,
    metrics,
    log,
  });
  metrics.observe(service.view, budget);

  const api = createControlApi({
    ...settings.api,
    onBug: (error) => log.error(error instanceof Error ? (error.stack ?? error.message) : String(error)),
    view: { ...service.view, metrics: metrics.text },
  });
  const server = await listen(api.fetch, settings.listen);
  try {
    onListening(server.url);
    /** Whatever the edge was made of last must be complete before it is made anew. */
    const begin = async (): Promise<void> => {
      const own = ++term;
      const clusters = (await publisher.read())?.clusters ?? [];
      const recovered = await recover(clusters);
      if (own === term) service.expect(clusters, recovered);
    };
    const recover = async (clusters: readonly string[]): Promise<ReadonlyMap<string, EdgeConfig>> => {
      const silent = service.silent(clusters);
      const reading = silent.length === 0 ? undefined : await publisher.readConfig();
      if (reading?.kind === "config") return takeApart(reading.config, clusters, silent);
      if (reading?.kind === "damaged")
        log.warning("what stands in KV cannot be read back, so states must be pushed again", {
          reason: reading.reason,
        });
      return new Map();
    };
    const report = (what: string) => (error: unknown) => log.error(`${what} failed: ${String(error)}`);
    if (leadership === undefined) begin().catch(report("reading the pointer"));
    else {
      const take = (next: Term): void => {
        if (next.kind === "follow") {
          term++;
          publisher.follow();
          service.hold();
          reporter?.following();
          log.info("this replica follows");
          return;
        }
        epoch = next.epoch;
        publisher.lead();
        log.info("this replica leads", { epoch });
        // Not awaited: it lasts as long as KV cannot be read, and the term may end before.
        begin().catch(report("reading the pointer"));
      };
      forEach(leadership.terms, take).catch(report("the election"));
    }
    for (const source of sources) {
      const put = (state: ClusterState): void => service.put(source.cluster, state);
      forEach(source.states, put).catch(report(`the source of the cluster ${source.cluster}`));
    }
    await aborted(stop);
  } finally {
    await server.close();
    await publisher.close();
  }
}

async function forEach<T>(values: AsyncIterable<T>, take: (value: T) => void | Promise<void>): Promise<void> {
  for await (const value of values) await take(value);
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

function logEvent(event: PublisherEvent, log: Log): void {
  switch (event.kind) {
    case "published": {
      const { pointer, writtenShards, writtenBytes } = event.result;
      log.info("published", {
        generation: pointer.generation,
        epoch: pointer.epoch,
        shards: writtenShards.length,
        bytes: writtenBytes,
        ...Object.fromEntries(
          Object.entries(event.timings).map(([stage, ms]) => [stage, Math.round(ms * 10) / 10]),
        ),
      });
      return;
    }
    case "unchanged":
      return;
    case "pinned":
      log.warning("not published: an earlier generation is pinned", { generation: event.generation });
      return;
    case "failed":
      log.error(`publishing failed: ${event.error.message}`, { retryInMs: Math.round(event.retryInMs) });
      return;
    case "rejected":
      log.error(`the configuration cannot be published: ${event.error.message}`);
      return;
    case "deposed":
      log.warning(event.error.message);
      return;
    case "repaired":
      log.warning("what stood in KV was changed by somebody else and was put back", {
        generation: event.result.pointer.generation,
      });
      return;
    case "swept":
      log.info("old shards deleted", { shards: event.shards });
      return;
    case "upkeep-failed":
      log.warning(`upkeep failed and is tried again later: ${event.error.message}`);
      return;
    default:
      event satisfies never;
  }
}
