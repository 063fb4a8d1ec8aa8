/** Another `Host` for the pod (ingress-nginx `upstream-vhost`). */
export interface UpstreamVhostPolicy {
  readonly host: string;
}
