/**
 * Sends a request to a pod: picks an endpoint, sends, and goes on to another one where that is safe.
 *
 * In: an exchange whose filters are done. Out: the pod's answer as it came (`exchange.answeredBy` is `origin`), or
 * our own: 404 (no backend), 503 (no endpoint), 502 (no pod reached), 504 (no answer in time). Bodies stream both ways.
 */

import type { BackendPool } from "../balance/backend-pool.ts";
import type { Endpoint } from "../balance/balancer.ts";
import { errorPage } from "../error-page.ts";
import type { Exchange, RetryPolicy } from "../exchange.ts";
import { encodePath } from "../path.ts";
import { dressHeaders } from "./headers.ts";
import { outgoingBody } from "./outgoing-body.ts";
import type { Attempt, Transport } from "./transport.ts";
import { within } from "./within.ts";

/** What nginx does not repeat without being told to: the others change nothing more when they come twice. */
const NOT_IDEMPOTENT: ReadonlySet<string> = new Set(["POST", "PATCH", "LOCK"]);

const NONE: readonly Endpoint[] = [];

export async function forward(exchange: Exchange, transport: Transport): Promise<Response> {
  const { request, upstream } = exchange;
  const pool = upstream.backend;
  if (pool === undefined) return errorPage(404);
  const { session } = upstream;
  const first = session?.endpoint ?? pool.balancer.pick(exchange, NONE);
  if (first === undefined) return errorPage(503);
  let endpoint: Endpoint = first;

  const { retry } = upstream;
  const { method } = request;
  const mayRepeat = retry.nonIdempotent || !NOT_IDEMPOTENT.has(method);
  const target = upstreamTarget(exchange);
  const body = outgoingBody(exchange, upstream.body, pool.endpoints.length > 1 && retry.tries > 1);
  const dress = (headers: Headers): void => dressHeaders(headers, exchange);
  const latestStart = Number.isFinite(retry.totalMilliseconds)
    ? Date.now() + retry.totalMilliseconds
    : Number.POSITIVE_INFINITY;
  const tried: Endpoint[] = [];

  for (let count = 1; ; count++) {
    const isLast = count === retry.tries || !body.canReplay;
    const startedAt = pool.balancer.settle === undefined ? 0 : Date.now();
    const attempt: Attempt = {
      endpoint: endpoint.address,
      scheme: upstream.scheme,
      http2: upstream.http2,
      connectMilliseconds: upstream.connectMilliseconds,
      tls: upstream.tls,
      host: upstream.host,
      target,
      method,
      headers: request.headers,
      dress,
      body: body.take(isLast),
      carrier: body.carrier,
    };
    let result: AttemptResult;
    try {
      const response = await within(retry.headMilliseconds, transport.send(attempt), upstream.bodyStalled);
      result = judge(response, pool, endpoint, retry, transport, startedAt);
    } catch (error) {
      pool.balancer.settle?.(endpoint, { kind: "failed" });
      warn(pool, endpoint, error instanceof Error ? error.message : String(error));
      result = BROKEN;
    }
    if (
      result.kind !== "answered" &&
      !isLast &&
      Date.now() <= latestStart &&
      isRepeated(result.kind, retry, mayRepeat)
    ) {
      tried.push(endpoint);
      // Once all have failed they get their turn again: a pod may have closed an idle connection, no more.
      const next: Endpoint | undefined = session?.isFixed
        ? endpoint
        : (pool.balancer.pick(exchange, tried) ?? pool.balancer.pick(exchange, NONE));
      if (next !== undefined) {
        if (result.kind === "refusedStatus") discard(result.response);
        endpoint = next;
        continue;
      }
    }
    if (!isLast) body.release();
    upstream.usedEndpoint = endpoint;
    if (result.kind === "answered" || result.kind === "refusedStatus") {
      exchange.answeredBy = "origin";
      return result.response;
    }
    return errorPage(result.kind === "timedOut" ? 504 : 502);
  }
}

type AttemptResult =
  | { readonly kind: "answered"; readonly response: Response }
  /** It answered, with a status that the route counts as a failure. */
  | { readonly kind: "refusedStatus"; readonly response: Response }
  /** The pod was not reached: nothing can have happened there. */
  | { readonly kind: "undelivered" }
  /** No connection, or a broken one: the pod may have seen the request. */
  | { readonly kind: "broken" }
  | { readonly kind: "timedOut" };

function isRepeated(failure: AttemptResult["kind"], retry: RetryPolicy, mayRepeat: boolean): boolean {
  switch (failure) {
    case "undelivered":
      return retry.onError;
    case "broken":
      return retry.onError && mayRepeat;
    case "timedOut":
      return retry.onTimeout && mayRepeat;
    case "refusedStatus":
      return mayRepeat;
    case "answered":
      return false;
    default:
      return failure satisfies never;
  }
}

const BROKEN: AttemptResult = { kind: "broken" };

/** What became of an attempt, told to the balancer as well. `response` is absent when the time was up. */
function judge(
  response: Response | undefined,
  pool: BackendPool,
  endpoint: Endpoint,
  retry: RetryPolicy,
  transport: Transport,
  startedAt: number,
): AttemptResult {
  const { settle } = pool.balancer;
  if (response === undefined) {
    settle?.(endpoint, { kind: "timedOut" });
    warn(pool, endpoint, `no answer within ${retry.headMilliseconds} ms`);
    return { kind: "timedOut" };
  }
  const failure = transport.failureOf(response);
  if (failure !== undefined) {
    settle?.(endpoint, { kind: "failed" });
    warn(pool, endpoint, failure.reason);
    discard(response);
    return { kind: failure.kind };
  }
  if (retry.statuses?.has(response.status) === true) {
    settle?.(endpoint, { kind: "failed" });
    return { kind: "refusedStatus", response };
  }
  settle?.(endpoint, { kind: "answered", status: response.status, milliseconds: Date.now() - startedAt });
  return { kind: "answered", response };
}

function warn(pool: BackendPool, endpoint: Endpoint, reason: string): void {
  console.warn(`${pool.name}: no answer from ${endpoint.address}: ${reason}`);
}

/** Path and query for the request line: the client's own bytes, unless a filter rewrote them. */
function upstreamTarget({ target, upstream }: Exchange): string {
  const path = upstream.path === undefined ? target.rawPath : encodePath(upstream.path);
  return path + (upstream.query ?? target.query);
}

function discard(response: Response): void {
  response.body?.cancel().catch(() => {}); // It is no matter to the client how the rest of it ends.
}
