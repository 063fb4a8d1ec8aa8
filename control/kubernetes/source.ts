/**
 * A cluster that is watched, as a source of states for the control service.
 *
 * In: a connection and what to watch. Out: states, how the watches are, and what stands in the status of each Ingress.
 */

import type { ObjectName } from "../../cluster/model.ts";
import type { KubernetesApi } from "../../cluster/watch/api.ts";
import type { BackoffLimits } from "../../cluster/watch/backoff.ts";
import { watchCluster } from "../../cluster/watch/cluster-watch.ts";
import type { PulseSettings } from "../../cluster/watch/pulse.ts";
import type { RawObject } from "../../cluster/watch/reflector.ts";
import type { ClusterSource, ClusterState } from "../cluster-source.ts";
import type { CompileOptions } from "../compile/options.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { createNewest } from "../newest.ts";
import { createReferences } from "./references.ts";

export interface KubernetesSourceOptions {
  readonly cluster: string;
  readonly api: KubernetesApi;
  readonly compile: CompileOptions;
  /** Absent: all. */
  readonly namespaces?: readonly string[] | undefined;
  /** Label selector; absent: all. */
  readonly ingressSelector?: string | undefined;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly pulse?: PulseSettings | undefined;
  readonly backoff?: BackoffLimits | undefined;
}

export interface KubernetesSource extends ClusterSource {
  /** `.status.loadBalancer.ingress` of an Ingress as JSON, `[]` where it is empty; `undefined`: there is no such Ingress. */
  readonly ingressStatus: (name: ObjectName) => string | undefined;
  /** Grows whenever a status is another one than before. */
  readonly statusChanges: () => number;
  readonly close: () => void;
}

/** The Worker chooses endpoints without looking at Nodes, so they are none of this source's business. */
const KINDS = ["Ingress", "IngressClass", "Service", "EndpointSlice"] as const;

export function createKubernetesSource(options: KubernetesSourceOptions): KubernetesSource {
  const { cluster, api, metrics, log } = options;
  const newest = createNewest<ClusterState>();
  const statuses = new Map<string, string>();
  let statusChanges = 0;
  const lists = metrics.counter(
    "fairlead_kubernetes_lists_total",
    "Whole lists taken from the API server, by kind and reason: first, gone (the server had forgotten our version).",
  );
  const events = metrics.counter("fairlead_kubernetes_watch_events_total", "Watch events, by kind.");
  const losses = metrics.counter(
    "fairlead_kubernetes_watch_losses_total",
    "Watches and lists that failed, by kind.",
  );

  const watch = watchCluster({
    api,
    kinds: KINDS,
    namespaces: options.namespaces,
    labelSelectors: options.ingressSelector === undefined ? {} : { Ingress: options.ingressSelector },
    references: createReferences(options.compile),
    pulse: options.pulse,
    backoff: options.backoff,
    onSnapshot: (snapshot) => newest.put(snapshot),
    onRaw: (kind, name, raw) => {
      if (kind !== "Ingress") return;
      const status = raw === undefined ? undefined : loadBalancerOf(raw);
      if (statuses.get(name) === status) return;
      statusChanges++;
      if (status === undefined) statuses.delete(name);
      else statuses.set(name, status);
    },
    onNote: (kind, note) => {
      switch (note.kind) {
        case "list":
          lists.add(1, { cluster, kind, reason: note.reason });
          log.info("listed", { cluster, kind, reason: note.reason, objects: note.objects });
          return;
        case "event":
          events.add(1, { cluster, kind });
          return;
        case "connected":
          log.info("the watch is connected again", { cluster, kind });
          return;
        case "disconnected":
          losses.add(1, { cluster, kind });
          log.warning("the watch is disconnected", { cluster, kind, reason: note.message });
          return;
        default:
          note satisfies never;
      }
    },
  });
  metrics.gauge("fairlead_kubernetes_watch_connected", "1 while the watches of a kind are connected.", () =>
    watch.status().map(({ kind, trouble }) => [{ cluster, kind }, trouble === undefined ? 1 : 0]),
  );
  metrics.gauge("fairlead_kubernetes_watch_synced", "1 once the first lists of a kind are complete.", () =>
    watch.status().map(({ kind, listed }) => [{ cluster, kind }, listed ? 1 : 0]),
  );
  metrics.gauge("fairlead_kubernetes_objects", "Objects that are held, by kind.", () =>
    watch.status().map(({ kind, objects }) => [{ cluster, kind }, objects]),
  );

  return {
    cluster,
    states: newest.values,
    problem: watch.problem,
    ingressStatus: (name) => statuses.get(name),
    statusChanges: () => statusChanges,
    close: () => {
      watch.close();
      newest.end();
    },
  };
}

function loadBalancerOf(raw: RawObject): string {
  const { status } = raw as { readonly status?: { readonly loadBalancer?: { readonly ingress?: unknown } } };
  return JSON.stringify(status?.loadBalancer?.ingress ?? []);
}
