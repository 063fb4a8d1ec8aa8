/**
 * A request that met a route, and what shall be sent to the pod for it.
 * Filters read the first and change the second (`upstream`); the origin stage sends it.
 */

import type { BackendPool } from "./balance/backend-pool.ts";
import type { Endpoint } from "./balance/balancer.ts";
import { errorPage } from "./error-page.ts";
import type { RouteEntry } from "./host-table.ts";
import { Visit } from "./visit.ts";

export class Exchange extends Visit {
  readonly entry: RouteEntry;
  readonly upstream: UpstreamRequest;
  /** The request stands in the access log, where there is one. */
  isLogged = true;
  /** `satisfy any`: some access check was passed, so no other one is asked. */
  isSatisfied = false;
  /** `satisfy any`: the refusals so far. */
  readonly refusals: Refusal[] = [];
  /** Who made the answer that response hooks see. */
  answeredBy: Answerer = "edge";

  constructor(
    request: Request,
    target: Visit["target"],
    path: string,
    host: Visit["host"],
    entry: RouteEntry,
    edge: Visit["edge"],
    context: ExecutionContext,
  ) {
    super(request, target, path, host, edge, context);
    this.entry = entry;
    this.upstream = new UpstreamRequest(entry.backend, target.authority);
  }

  /** An access check is passed; with `satisfy any` that is enough. */
  satisfy(): void {
    this.isSatisfied = this.entry.route.policies?.satisfy !== undefined;
  }

  /** An access check is failed: the answer, or nothing yet where another check may still let the request pass. */
  refuse(status: Refusal["status"], refusal: Omit<Refusal, "status"> = {}): Response | undefined {
    if (this.entry.route.policies?.satisfy !== undefined) {
      this.refusals.push({ status, ...refusal });
      return undefined;
    }
    if (refusal.answer !== undefined) return refusal.answer;
    const answer = errorPage(status);
    if (refusal.challenge !== undefined) answer.headers.set("WWW-Authenticate", refusal.challenge);
    return answer;
  }
}

/** Why an access check does not let a request pass. */
export interface Refusal {
  readonly status: 401 | 403 | 500;
  /** Value of `WWW-Authenticate`. */
  readonly challenge?: string;
  /** In place of the plain page. */
  readonly answer?: Response;
}

/** `edge`: our own 404, 502, 503, 504. `filter`: a feature's `onRequest`. `origin`: the pod. */
export type Answerer = "origin" | "edge" | "filter";

/** A client certificate for the pod, and what its own must be. */
export interface UpstreamTls {
  /** `namespace/name`, known to the gateway. */
  readonly secret: string;
  readonly verifies: boolean;
  /** Sent in the handshake, and wanted in the certificate. */
  readonly name?: string;
}

/** What will be sent to the pod. */
export class UpstreamRequest {
  /** A canary chooses another one. `undefined`: the default of a host without a default backend, 404. */
  backend: BackendPool | undefined;
  /** `Host` that the pod sees: the client's own, with its port, unless `upstream-vhost` names another. */
  host: string;
  scheme: "http" | "https" = "http";
  /** The pod speaks HTTP/2 alone. */
  http2 = false;
  /** With `https`: how the gateway speaks TLS with the pod. */
  tls: UpstreamTls | undefined = undefined;
  /** A rewritten path, normalised; it is encoded anew (`encodePath`). `undefined`: the client's own bytes. */
  path: string | undefined = undefined;
  /** A query with its `?`, in place of the client's. `undefined`: the client's own. */
  query: string | undefined = undefined;
  /** In place of the client's body: one that counts its bytes, say. */
  body: ReadableStream | undefined = undefined;
  /** Settles when the pod takes no more of the body: the time of the attempt is up then. */
  bodyStalled: Promise<undefined> | undefined = undefined;
  /** Set (or, with `undefined`, removed) after the standard headers, in order. */
  headerEdits: [name: string, value: string | undefined][] | undefined = undefined;
  retry: RetryPolicy = DEFAULT_RETRY;
  /** The endpoint that the client's session is bound to; `isFixed`: it stays there even when that fails. */
  session: { readonly endpoint: Endpoint; readonly isFixed: boolean } | undefined = undefined;
  /** The request belongs to no session, whatever the route says (a canary of the legacy kind). */
  isOutsideSessions = false;
  /** Set by the origin stage: the endpoint of the last attempt. */
  usedEndpoint: Endpoint | undefined = undefined;
  /** For the gateway, which connects. */
  connectMilliseconds = DEFAULT_CONNECT_MILLISECONDS;

  constructor(backend: BackendPool | undefined, host: string) {
    this.backend = backend;
    this.host = host;
  }

  setHeader(name: string, value: string): void {
    this.headerEdits ??= [];
    this.headerEdits.push([name, value]);
  }

  removeHeader(name: string): void {
    this.headerEdits ??= [];
    this.headerEdits.push([name, undefined]);
  }
}

/** nginx's, and a gateway's own. */
export const DEFAULT_CONNECT_MILLISECONDS = 5_000;

/** When an attempt is followed by another one, at another endpoint (nginx's `proxy_next_upstream*`). */
export interface RetryPolicy {
  /** Attempts in all, the first one included. */
  readonly tries: number;
  /** No attempt starts later than this after the first one. */
  readonly totalMilliseconds: number;
  /** From the start of an attempt to the head of its answer; then 504. */
  readonly headMilliseconds: number;
  readonly onError: boolean;
  readonly onTimeout: boolean;
  /** Also repeats what may have reached a pod and is not idempotent (POST, PATCH, LOCK). */
  readonly nonIdempotent: boolean;
  /** Statuses of the pod that count as failures. */
  readonly statuses: ReadonlySet<number> | undefined;
}

/** nginx's: `error timeout`, 3 tries, 60 seconds to read. */
export const DEFAULT_RETRY: RetryPolicy = {
  tries: 3,
  totalMilliseconds: Number.POSITIVE_INFINITY,
  headMilliseconds: 60_000,
  onError: true,
  onTimeout: true,
  nonIdempotent: false,
  statuses: undefined,
};
