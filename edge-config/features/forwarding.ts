/** Whose word about the client counts, and what pods are told of it. Absent: nobody's, and what nginx tells by default. */
export interface ForwardingPolicy {
  /** Proxies in front of the edge; canonical CIDRs. Empty: `X-Forwarded-*` of every client is replaced. */
  readonly trusted: readonly string[];
  /** Lower case; where such a proxy tells the client's address. */
  readonly addressHeader: string;
  /** Such a proxy is believed in scheme, host and port too. */
  readonly trustsOthers: boolean;
  /** `X-Forwarded-For` for the pod is the client's own with one address more. */
  readonly appends: boolean;
  /** A request without `X-Request-ID` gets one. */
  readonly makesRequestIds: boolean;
  /** The pod gets `X-Original-Uri`. */
  readonly tellsOriginalUri: boolean;
}
