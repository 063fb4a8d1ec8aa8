/** Where the agent learns of the cluster. */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { ClusterModel } from "../../cluster/model.ts";

export interface ClusterState {
  /** Complete: never a part of what the first lists hold. Objects that have not changed are the same as in the state before. */
  readonly model: ClusterModel;
  readonly diagnostics: readonly Diagnostic[];
  /** When the first change came that is not in the state before; milliseconds since 1970. */
  readonly receivedAtMs: number;
  /** Kinds that were asked for and of which nothing is known yet, neither that there are objects nor that there are none. */
  readonly missing?: ReadonlySet<string>;
}

/** Whether the API server tells what changes; without it the newest state may be old. */
export interface WatchState {
  readonly kind: string;
  readonly isConnected: boolean;
}

export interface ClusterSource {
  /** Of every kind that is followed; none where there is nobody who could be lost. */
  readonly status: () => readonly WatchState[];
  readonly close: () => void;
}
