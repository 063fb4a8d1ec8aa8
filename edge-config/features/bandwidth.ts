/** How fast an answer may go to a client (ingress-nginx `limit-rate`). */
export interface BandwidthPolicy {
  readonly bytesPerSecond: number;
  /** So many bytes first, as fast as they come. */
  readonly afterBytes: number;
}
