/** When a request that failed at one pod goes on to another (ingress-nginx `proxy-next-upstream*`). Absent: nginx's defaults. */
export interface NextUpstreamPolicy {
  /** Broken or refused connections. */
  readonly onError: boolean;
  readonly onTimeout: boolean;
  /** Statuses of the pod that count as failures. */
  readonly statuses: readonly number[];
  /** Also POST, PATCH and LOCK that may have reached a pod. */
  readonly nonIdempotent: boolean;
  /** Attempts in all; 0 for no limit but the endpoints'. */
  readonly tries: number;
  /** No attempt starts later than this after the first; 0 for no limit. */
  readonly timeoutSeconds: number;
}
