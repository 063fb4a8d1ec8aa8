/** Whoever tells the outside world what the edge has become: the seam between the service and a cluster's API server. */

import type { ControlView } from "./view.ts";

export interface EdgeReporter {
  /** This replica leads, and KV holds what the view shows. */
  readonly published: (view: ControlView) => void;
  /** Another replica leads from now on, and does the telling. */
  readonly following: () => void;
}
