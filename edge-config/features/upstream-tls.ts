/** TLS towards pods (ingress-nginx `proxy-ssl-*`). Absent: their certificates are not verified, and no name is sent. */
export interface UpstreamTlsPolicy {
  /** `namespace/name` of the Secret with CA and client certificate. The gateway knows it by this name; it never leaves the cluster. */
  readonly secret: string;
  /** The pod's certificate must be signed by the Secret's CA, for `name` or else the request's host. */
  readonly verifies: boolean;
  /** Name in the handshake and in the certificate. */
  readonly name?: string;
  /** The name is sent in the handshake (SNI). */
  readonly sendsName: boolean;
}
