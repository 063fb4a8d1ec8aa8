/**
 * What the control API shows and does, as an interface: `fairlead control` has all of it, `fairlead dev` the
 * part that makes sense for files on a laptop.
 */

import type { ClusterModel } from "../cluster/model.ts";
import type { ClusterState } from "./cluster-source.ts";
import type { CompiledEdge } from "./edge.ts";
import type { Publisher } from "./kv/publisher.ts";

export interface ControlView {
  /** `undefined` before the first state of every cluster is complete. */
  readonly edge: () => CompiledEdge | undefined;
  readonly clusters: () => readonly ClusterView[];
  readonly publisher: Publisher;
  /** Resolves once everything that can be published is. */
  readonly settled: () => Promise<void>;
  /** Why this service is not ready, in one sentence; `undefined` when it is. */
  readonly notReady: () => string | undefined;
  /** Absent: states cannot be pushed here. */
  readonly push?: ClusterPush;
  /** Prometheus' text; absent: there are no metrics. */
  readonly metrics?: () => string;
}

export interface ClusterPush {
  /** Takes a state and compiles it; it is published soon afterwards. */
  readonly put: (cluster: string, state: ClusterState) => void;
  /** Forgets a cluster, with all of its hosts. False: there is none. */
  readonly remove: (cluster: string) => boolean;
}

export interface ClusterView {
  readonly name: string;
  /** Milliseconds since 1970. Absent: its first state has not come yet. */
  readonly receivedAtMs?: number;
  readonly model?: ClusterModel;
  /** One sentence; absent: all is well. */
  readonly problem?: string;
}
