/**
 * The control service: the steps in order, and nothing else.
 *
 * keys → KV client → publisher → API → the clusters that must be complete → states in, publications out,
 * until `stop` fires.
 *
 * In: settings, sources of cluster states, a log, a signal. Out: nothing, once everything has ended.
 */

import { deriveConfigKeys } from "../edge-config/config-keys.ts";
import { createControlApi } from "./api.ts";
import type { ClusterSource, ClusterState } from "./cluster-source.ts";
import { createEdgeCompiler } from "./edge.ts";
import { createBudget } from "./kv/budget.ts";
import { createKvClient } from "./kv/client.ts";
import { createDryRunClient } from "./kv/dry-run.ts";
import { createPublisher, type PublisherEvent } from "./kv/publisher.ts";
import { listen } from "./listen.ts";
import type { Log } from "./log.ts";
import { createMetrics } from "./metrics.ts";
import { readOwnershipRules } from "./ownership.ts";
import { createService } from "./service.ts";
import { createServiceMetrics } from "./service-metrics.ts";
import type { ControlSettings } from "./settings.ts";

export interface ControlOptions {
  readonly settings: ControlSettings;
  /** Clusters that are watched; others may be pushed. */
  readonly sources: readonly ClusterSource[];
  readonly log: Log;
  /** Told once the API listens: `http://host:port`. */
  readonly onListening: (url: string) => void;
  readonly stop: AbortSignal;
}

/** Rejects when the service cannot start: a wrong key or policy, a port that is taken. */
export async function runControl({
  settings,
  sources,
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
  const metrics = createServiceMetrics(createMetrics());
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
  const publisher = createPublisher({
    client: settings.dryRun ? createDryRunClient(client, (sentence) => log.info(sentence)) : client,
    keys,
    pace: settings.pace,
    admit: budget.admit,
    onEvent: (event) => {
      metrics.publisherEvent(event);
      logEvent(event, log);
    },
  });
  const service = createService({
    compiler: createEdgeCompiler(settings.compile, rules),
    publisher,
    sources,
    metrics,
    log,
  });
  metrics.observe(service.view, budget);

  const api = createControlApi({ ...settings.api, view: { ...service.view, metrics: metrics.text } });
  const server = await listen(api.fetch, settings.listen);
  try {
    onListening(server.url);
    // Whatever the edge was made of last must be complete before it is made anew.
    const read = publisher.read().then((pointer) => service.expect(pointer?.clusters ?? []));
    read.catch((error: unknown) => log.error(`The pointer could not be read: ${String(error)}`));
    for (const source of sources) {
      follow(source, service.put).catch((error: unknown) => {
        log.error(`the source of a cluster failed: ${String(error)}`, { cluster: source.cluster });
      });
    }
    await aborted(stop);
  } finally {
    await server.close();
    await publisher.close();
  }
}

async function follow(
  source: ClusterSource,
  put: (cluster: string, state: ClusterState) => void,
): Promise<void> {
  for await (const state of source.states) put(source.cluster, state);
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

function logEvent(event: PublisherEvent, log: Log): void {
  switch (event.kind) {
    case "published": {
      const { pointer, writtenShards, writtenBytes } = event.result;
      const { waitedMs, cutMs, writeMs } = event.timings;
      log.info("published", {
        generation: pointer.generation,
        epoch: pointer.epoch,
        shards: writtenShards.length,
        bytes: writtenBytes,
        waitedMs: Math.round(waitedMs),
        cutMs: Math.round(cutMs),
        writeMs: Math.round(writeMs),
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
