/**
 * A request before a route is chosen: what came, and what follows from it alone.
 * Nothing here is computed before somebody asks for it, so a route pays only for the features that it uses.
 */

import type { Edge } from "./edge.ts";
import type { HostTable } from "./host-table.ts";
import { newRequestId } from "./request-id.ts";
import type { RequestTarget } from "./request-target.ts";

export class Visit {
  /** As it came. Only the origin stage reads its body; a filter that must see it replaces `upstream.body`. */
  readonly request: Request;
  readonly target: RequestTarget;
  /** The normalised path, a byte string (`path.ts`): what was matched, and what every filter goes by. */
  readonly path: string;
  readonly host: HostTable;
  readonly edge: Edge;
  readonly context: ExecutionContext;

  /** Asked for once: each look at it costs. */
  readonly body: ReadableStream | null;

  #client: string | undefined;
  #requestId: string | undefined;

  constructor(
    request: Request,
    target: RequestTarget,
    path: string,
    host: HostTable,
    edge: Edge,
    context: ExecutionContext,
  ) {
    this.request = request;
    this.target = target;
    this.path = path;
    this.host = host;
    this.edge = edge;
    this.context = context;
    this.body = request.body;
  }

  /** Address of the client, without port; empty when the platform tells none. From a header only where the operator trusts its writer. */
  get client(): string {
    this.#client ??= this.edge.forwarding?.client(this.peer, this.request.headers) ?? this.peer;
    return this.#client;
  }

  /** Address of whoever connected: the client, unless a proxy in front of the edge is believed. */
  get peer(): string {
    return peerAddress(this.request) ?? this.edge.settings.defaultClient;
  }

  /** The client's `X-Request-ID`, or 32 hexadecimal digits of our own; empty where the operator wants none. */
  get requestId(): string {
    this.#requestId ??=
      this.request.headers.get("x-request-id") ||
      (this.edge.forwarding?.policy.makesRequestIds === false ? "" : newRequestId());
    return this.#requestId;
  }

  /** The port that the client reached. */
  get port(): string {
    if (this.target.port !== undefined) return this.target.port;
    return this.edge.settings.listenPort ?? (this.target.scheme === "https" ? "443" : "80");
  }
}

/** Cloudflare sets the header and lets no client do so; a plain workerd tells `address:port` in `cf`. */
export function peerAddress(request: Request): string | undefined {
  const connecting = request.headers.get("cf-connecting-ip");
  if (connecting !== null) return connecting;
  const { clientIp } = (request.cf ?? {}) as { readonly clientIp?: string };
  if (clientIp === undefined) return undefined;
  const port = /^(?:\[(.+)\]|([^:]+)):\d+$/.exec(clientIp);
  return port?.[1] ?? port?.[2] ?? clientIp;
}
