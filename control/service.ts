/**
 * States in, configurations out, and the gate between: nothing is published before every cluster that is watched has
 * told its first whole state, and every other one that the edge was last made of either has done so or could be taken
 * over from the edge. Otherwise a restart would take the hosts of a slow cluster off the edge.
 *
 * In: states. Out: configurations for the publisher, and a view for the API.
 */

import { shareModel } from "../cluster/shared-model.ts";
import type { EdgeConfig } from "../edge-config/config.ts";
import type { ClusterSource, ClusterState } from "./cluster-source.ts";
import type { CompiledEdge, EdgeCompiler } from "./edge.ts";
import type { Publisher, SubmissionOrigin } from "./kv/publisher.ts";
import type { Log } from "./log.ts";
import type { ServiceMetrics } from "./service-metrics.ts";
import type { ControlView } from "./view.ts";

export interface ServiceOptions {
  readonly compiler: EdgeCompiler;
  readonly publisher: Publisher;
  readonly sources: readonly ClusterSource[];
  readonly metrics: Pick<ServiceMetrics, "gathered" | "compiled">;
  readonly log: Log;
}

export interface Service {
  readonly put: (cluster: string, state: ClusterState) => void;
  /** Those of these clusters that have told nothing and are not watched: all that is left of them stands at the edge. */
  readonly silent: (clusters: readonly string[]) => readonly string[];
  /**
   * Tells which clusters the edge was last made of, and what it has of the silent ones, as far as that could be read;
   * until this was called, nothing is published.
   */
  readonly expect: (clusters: readonly string[], recovered: ReadonlyMap<string, EdgeConfig>) => void;
  /**
   * Publishes nothing until the next `expect`: another replica may change what the edge is made of. States that were
   * pushed are forgotten, since newer ones go to that replica.
   */
  readonly hold: () => void;
  readonly view: ControlView;
}

const RECOVERED =
  "Its state has not come since this service leads; the edge goes on with what was published last.";

export function createService(options: ServiceOptions): Service {
  const { compiler, publisher, sources, metrics, log } = options;
  const watched = new Map(sources.map((source) => [source.cluster, source]));
  const missing = new Set(watched.keys());
  let pointerIsRead = false;
  let pointerRead = Promise.withResolvers<void>();
  let edge: CompiledEdge | undefined;
  /** Of a state that was not submitted yet. */
  let origin: SubmissionOrigin | undefined;

  const publish = (): void => {
    if (edge === undefined || !pointerIsRead || notReady() !== undefined) return;
    const { config, clusters, delta } = edge;
    publisher.submit(config, {
      clusters,
      ...(delta === undefined ? {} : { delta }),
      ...(origin === undefined ? {} : { origin }),
    });
    origin = undefined;
  };
  const notReady = (): string | undefined => {
    if (!publisher.status().leading) return undefined; // A follower is ready to lead; it has nothing to wait for.
    if (!pointerIsRead) {
      const { lastError } = publisher.status();
      return `The pointer in KV was not read yet${lastError === undefined ? "" : `: ${lastError}`}.`;
    }
    if (missing.size > 0) return `The state of ${[...missing].sort().join(", ")} has not come yet.`;
    if (edge === undefined) return "No cluster has told its state yet.";
    return undefined;
  };

  const put = (cluster: string, state: ClusterState): void => {
    const gatherMs = Math.max(0, Date.now() - state.receivedAtMs);
    metrics.gathered(gatherMs);
    const startedMs = performance.now();
    edge = compiler.update(cluster, state);
    const compileMs = performance.now() - startedMs;
    metrics.compiled(compileMs);
    if (missing.delete(cluster)) log.info("the first state of a cluster is here", { cluster });
    origin = { gatherMs, compileMs };
    publish();
  };

  const silent = (clusters: readonly string[]): readonly string[] => {
    const known = compiler.clusters();
    return clusters.filter((cluster) => !known.has(cluster) && !watched.has(cluster));
  };

  return {
    put,
    silent,
    expect: (clusters, recovered) => {
      pointerIsRead = true;
      for (const cluster of silent(clusters)) {
        const config = recovered.get(cluster);
        if (config === undefined) missing.add(cluster);
        else {
          edge = compiler.recover(cluster, config);
          log.info("a cluster goes on with what it has at the edge, until its state comes", { cluster });
        }
      }
      if (missing.size > 0) log.info("waiting for clusters", { clusters: [...missing].sort().join(", ") });
      publish();
      pointerRead.resolve();
    },
    hold: () => {
      pointerIsRead = false;
      pointerRead = Promise.withResolvers();
      publisher.withdraw();
      for (const cluster of missing) if (!watched.has(cluster)) missing.delete(cluster);
      for (const cluster of compiler.clusters().keys()) {
        if (watched.has(cluster)) continue;
        const rest = compiler.remove(cluster);
        edge = rest.clusters.length === 0 ? undefined : rest;
      }
    },
    view: {
      edge: () => edge,
      publisher,
      settled: async () => {
        await pointerRead.promise;
        await publisher.settled();
      },
      notReady,
      clusters: () => {
        const known = compiler.clusters();
        return [...new Set([...known.keys(), ...missing])].sort().map((name) => {
          const state = known.get(name);
          const isRecovered = known.has(name) && state === undefined;
          const problem = isRecovered ? RECOVERED : watched.get(name)?.problem();
          return {
            name,
            ...(state === undefined ? {} : { receivedAtMs: state.receivedAtMs, model: state.model }),
            ...(problem === undefined ? {} : { problem }),
          };
        });
      },
      push: {
        put: (cluster, state) =>
          put(cluster, { ...state, model: shareModel(compiler.clusters().get(cluster)?.model, state.model) }),
        remove: (cluster) => {
          if (watched.has(cluster)) return false;
          const wasMissing = missing.delete(cluster);
          if (!compiler.clusters().has(cluster)) {
            if (wasMissing) publish();
            return wasMissing;
          }
          edge = compiler.remove(cluster);
          publish();
          return true;
        },
      },
    },
  };
}
