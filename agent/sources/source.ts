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

export interface ClusterSource {
  /** One sentence where the source is cut off and the newest state may be old. */
  readonly problem: () => string | undefined;
  readonly close: () => void;
}
