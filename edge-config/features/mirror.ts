import type { Destination } from "../destination.ts";

/** A copy of every request for somebody else, whose answer nobody reads (ingress-nginx `mirror-*`). */
export interface MirrorPolicy {
  readonly destination: Destination;
  /** `Host` of the copy; absent: that of the destination. */
  readonly host?: string;
  readonly withBody: boolean;
}
