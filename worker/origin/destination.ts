/**
 * A request of the edge's own making: to an auth service, to the service of error pages, to a mirror.
 *
 * A backend of the cluster is reached like any other: balanced, through the origin transport, and with another
 * endpoint when one does not answer. A host that this very edge serves is answered here, through its own routes and
 * policies: over the network such a request would come back to us or, on Cloudflare, pass us by. Anything else is a
 * public URL; redirects are never followed.
 */

import type { Destination } from "../../edge-config/destination.ts";
import type { BackendPool } from "../balance/backend-pool.ts";
import type { Endpoint } from "../balance/balancer.ts";
import { DEFAULT_CONNECT_MILLISECONDS, DEFAULT_RETRY, type Exchange } from "../exchange.ts";
import { fillTemplate } from "../template.ts";
import { within } from "./within.ts";

export interface OwnRequest {
  readonly method: string;
  /** Without `Host`. */
  readonly headers: Headers;
  readonly body?: ReadableStream | null;
}

/** `undefined`: nobody could be reached in time. Never throws. */
export async function fetchDestination(
  exchange: Exchange,
  destination: Destination,
  { method, headers, body = null }: OwnRequest,
): Promise<Response | undefined> {
  const { edge } = exchange;
  const target = fillTemplate(destination.target, exchange);
  const send = (authority: string): Request =>
    new Request(`${destination.scheme}://${authority}${target}`, {
      method,
      headers,
      body,
      redirect: "manual",
    });
  switch (destination.kind) {
    case "Backend": {
      const { backend, scheme, host } = destination;
      const pool = exchange.host.backends.get(backend);
      return pool && fetchBackend(exchange, pool, { scheme, host, target, method, headers, body });
    }
    case "Self":
      return edge.answerWithin(send(exchange.target.authority), exchange);
    case "Url":
      try {
        const request = send(destination.host);
        if (await edge.serves(destination.host, exchange.context))
          return await edge.answerWithin(request, exchange);
        return await fetch(request, { signal: AbortSignal.timeout(patience(exchange)) });
      } catch {
        return undefined;
      }
    default:
      return destination satisfies never;
  }
}

export interface BackendRequest extends Required<OwnRequest> {
  readonly scheme: "http" | "https";
  readonly host: string;
  readonly target: string;
}

/** Tries up to three endpoints; a body is sent once. One that stays silent is not followed by another. Never throws. */
export async function fetchBackend(
  exchange: Exchange,
  pool: BackendPool,
  request: BackendRequest,
): Promise<Response | undefined> {
  const { transport } = exchange.edge;
  const { balancer } = pool;
  const tried: Endpoint[] = [];
  const tries = request.body === null ? DEFAULT_RETRY.tries : 1;
  while (tried.length < tries) {
    const endpoint = balancer.pick(exchange, tried);
    if (endpoint === undefined) return undefined;
    tried.push(endpoint);
    const startedAt = Date.now();
    try {
      const attempt = {
        ...request,
        endpoint: endpoint.address,
        http2: false,
        connectMilliseconds: DEFAULT_CONNECT_MILLISECONDS,
        carrier: undefined,
      };
      const response = await within(patience(exchange), transport.send(attempt));
      if (response === undefined) {
        balancer.settle?.(endpoint, { kind: "timedOut" });
        return undefined;
      }
      if (transport.failureOf(response) === undefined) {
        const { status } = response;
        balancer.settle?.(endpoint, { kind: "answered", status, milliseconds: Date.now() - startedAt });
        return response;
      }
      response.body?.cancel().catch(() => {}); // Nobody reads it.
    } catch {
      // The next endpoint, if there is one.
    }
    balancer.settle?.(endpoint, { kind: "failed" });
  }
  return undefined;
}

/** Milliseconds for the head of an answer: as long as the route waits for its pods. */
function patience({ entry }: Exchange): number {
  const seconds = entry.route.policies?.timeouts?.readSeconds;
  return seconds === undefined ? DEFAULT_RETRY.headMilliseconds : seconds * 1000;
}
