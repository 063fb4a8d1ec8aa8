/** How long the edge waits for a pod (ingress-nginx `proxy-*-timeout`), in seconds. Absent: nginx's 5, 60, 60. */
export interface TimeoutsPolicy {
  readonly connectSeconds: number;
  readonly sendSeconds: number;
  readonly readSeconds: number;
}
