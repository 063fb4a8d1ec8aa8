/**
 * Where the state of a cluster comes from: the one seam between the control service and whatever watches.
 *
 * A push is such a source (`pushed-clusters.ts`), and so is a watch on a Kubernetes API server. The service
 * only ever sees whole states, and sees none before the first one is complete.
 */

import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { ClusterModel } from "../cluster/model.ts";

/** Everything that is known of one cluster at one moment. */
export interface ClusterState {
  readonly model: ClusterModel;
  /** Of reading the objects. */
  readonly diagnostics: readonly Diagnostic[];
  /** When the change arrived that made it, in milliseconds since 1970: the clock starts here. */
  readonly receivedAtMs: number;
}

export interface ClusterSource {
  /** A DNS label; unique in a control service. */
  readonly cluster: string;
  /**
   * A state whenever it has changed, the first one only once it is complete. A consumer that is slow may
   * skip states: the newest one counts. Ends when the source is closed.
   */
  readonly states: AsyncIterable<ClusterState>;
  /** Absent: all is well. One sentence otherwise (the watch is disconnected since …); the last state stays in use. */
  readonly problem: () => string | undefined;
}
