/**
 * How a request reaches the endpoint that was chosen for it. One transport for an edge, by configuration.
 *
 * A Worker cannot set `Host` and, on Cloudflare, cannot dial an address: `gateway.ts` has both done inside the
 * cluster; `direct.ts` dials the endpoint itself and lives with the limits.
 */

import type { UpstreamTls } from "../exchange.ts";

export interface Transport {
  /**
   * One attempt. Resolves with the head of the answer, whatever its status; rejects when there was no connection
   * or it broke before the head.
   */
  readonly send: (attempt: Attempt) => Promise<Response>;
  /** What an answer tells of a failure between here and the pod. `undefined`: it is the pod's own. */
  readonly failureOf: (response: Response) => Failure | undefined;
}

export interface Failure {
  /** `undelivered`: the pod saw nothing, so any request may go to another one. `broken`: it may have. */
  readonly kind: "undelivered" | "broken";
  /** A clause for a log line. */
  readonly reason: string;
}

export interface Attempt {
  /** `address:port` of the endpoint. */
  readonly endpoint: string;
  readonly scheme: "http" | "https";
  /** The pod speaks HTTP/2 alone (gRPC): with prior knowledge, or by ALPN over TLS. */
  readonly http2: boolean;
  /** With `https`, where the route asks for more than an unverified connection. */
  readonly tls?: UpstreamTls | undefined;
  /** `Host` for the pod. */
  readonly host: string;
  /** Path and query as they shall stand in the request line, byte for byte. */
  readonly target: string;
  /** Longest wait for a connection. */
  readonly connectMilliseconds: number;
  readonly method: string;
  /** The client's, or those of a request of our own. Copied for each attempt, never changed. */
  readonly headers: Headers;
  /** Makes of their copy what the pod shall get. Absent: they go as they are. */
  readonly dress?: ((headers: Headers) => void) | undefined;
  readonly body: ReadableStream | null;
  /**
   * The client's request, which is sent with its method and body as they are: it alone can carry the body of a GET,
   * which the Fetch standard lets nobody make, and hands a body on untouched. Absent without a body: copying a request
   * costs the runtime more than naming its parts (it clones `cf`, parsed from JSON).
   */
  readonly carrier: Request | undefined;
}
