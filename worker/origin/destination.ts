/**
 * A request of the edge's own making: to an auth service, to the service of error pages, to a mirror.
 *
 * A backend of the cluster is reached like any other: balanced, through the origin transport, and with another
 * endpoint when one does not answer. Anything else is a public URL; redirects are never followed.
 */

import type { Destination } from "../../edge-config/destination.ts";
import type { BackendPool } from "../balance/backend-pool.ts";
import type { Endpoint } from "../balance/balancer.ts";
import { DEFAULT_RETRY, type Exchange } from "../exchange.ts";
import { fillTemplate } from "../template.ts";

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
  const target = fillTemplate(destination.target, exchange);
  if (destination.kind === "Backend") {
    const pool = exchange.host.backends.get(destination.backend);
    if (pool === undefined) return undefined;
    return fetchBackend(exchange, pool, {
      scheme: destination.scheme,
      host: destination.host,
      target,
      method,
      headers,
      body,
    });
  }
  const url = `${destination.scheme}://${fillTemplate(destination.host, exchange)}${target}`;
  try {
    return await fetch(url, {
      method,
      headers,
      body,
      redirect: "manual",
      signal: AbortSignal.timeout(DEFAULT_RETRY.headMilliseconds),
    });
  } catch {
    return undefined;
  }
}

export interface BackendRequest extends Required<OwnRequest> {
  readonly scheme: "http" | "https";
  readonly host: string;
  readonly target: string;
}

/** Tries up to three endpoints; a body is sent once. Never throws. */
export async function fetchBackend(
  exchange: Exchange,
  pool: BackendPool,
  request: BackendRequest,
): Promise<Response | undefined> {
  const { transport } = exchange.edge;
  const tried: Endpoint[] = [];
  const tries = request.body === null ? DEFAULT_RETRY.tries : 1;
  while (tried.length < tries) {
    const endpoint = pool.balancer.pick(exchange, tried);
    if (endpoint === undefined) return undefined;
    tried.push(endpoint);
    try {
      const response = await transport.send({
        ...request,
        endpoint: endpoint.address,
        carrier: undefined,
      });
      if (transport.failureOf(response) === undefined) return response;
      response.body?.cancel().catch(() => {}); // Nobody reads it.
    } catch {
      // The next endpoint, if there is one.
    }
  }
  return undefined;
}
