/**
 * How much one client may ask of one Ingress. The counting is in `../limits`; here is what it means to a request.
 *
 * A request in flight ends with its answer's body: sent whole, broken off by the pod, or left by the client; a
 * WebSocket when either side closes it.
 */

import type { RateLimitPolicy } from "../../edge-config/features/rate-limit.ts";
import { addressSet, clientBytes, prefixOf } from "../address-set.ts";
import { errorPage } from "../error-page.ts";
import type { Exchange } from "../exchange.ts";
import { ratePerMinute, ratePerSecond } from "../limits/bucket.ts";
import { HOLDER_MS, type Limits } from "../limits/ledger.ts";
import type { Admission } from "../limits/limiter.ts";
import { setRateLimitHeaders } from "../limits/rate-limit-headers.ts";
import { relayed } from "../web-socket-relay.ts";
import type { Answer, FilterFor } from "./filter.ts";

type Admitted = Admission & { readonly kind: "Admitted" };

export const rateLimit: FilterFor<"rateLimit"> = (policy) => {
  const limits = limitsOf(policy);
  const exempt = policy.exempt.length === 0 ? undefined : addressSet(policy.exempt);
  const admissions = new WeakMap<Exchange, Admitted>();

  const decide = (exchange: Exchange, admission: Admission): Answer | undefined => {
    const { headers } = exchange.edge.limitEnforcement;
    if (admission.kind === "Admitted") {
      if (headers || limits.connections !== undefined || admission.unlimited)
        admissions.set(exchange, admission);
      return undefined;
    }
    const answer = errorPage(admission.by === "rate" ? policy.requestStatus : policy.connectionStatus);
    if (headers) setRateLimitHeaders(answer.headers, "client", admission);
    return answer;
  };

  return {
    onRequest(exchange) {
      const { client, edge, context } = exchange;
      if (exempt?.has(client)) return undefined;
      const key = `${policy.key} ${clientKey(client, edge.limitEnforcement.ipv6PrefixLength)}`;
      const admission = edge.limiter.admit(key, limits, context);
      return admission instanceof Promise
        ? admission.then((settled) => decide(exchange, settled))
        : decide(exchange, admission);
    },
    onResponse(answer, exchange) {
      const admission = admissions.get(exchange);
      if (admission === undefined) return undefined;
      const { limitEnforcement, settings } = exchange.edge;
      if (limitEnforcement.headers) setRateLimitHeaders(answer.headers, "client", admission);
      if (admission.unlimited && settings.showsStatus)
        answer.headers.set("X-Fairlead-Limiter", "unreachable");
      return limits.connections === undefined ? undefined : releaseAtEnd(answer, exchange, admission);
    },
  };
};

function limitsOf(policy: RateLimitPolicy): Limits {
  const { requestsPerSecond, requestsPerMinute, burstMultiplier, connections } = policy;
  return {
    rates: [
      ...(requestsPerSecond === undefined ? [] : [ratePerSecond(requestsPerSecond, burstMultiplier)]),
      ...(requestsPerMinute === undefined ? [] : [ratePerMinute(requestsPerMinute, burstMultiplier)]),
    ],
    ...(connections === undefined ? {} : { connections }),
  };
}

/** Clients without an address share one key: better that than none. */
function clientKey(client: string, ipv6PrefixLength: number): string {
  if (!client.includes(":")) return client;
  const bytes = clientBytes(client);
  return bytes?.length === 16 ? prefixOf(bytes, ipv6PrefixLength) : (bytes?.join(".") ?? client);
}

/** Lets go of the slot when nothing more will come: at once, when a WebSocket closes, or with the last byte. */
function releaseAtEnd(answer: Answer, { request, context, edge }: Exchange, { release }: Admitted): Answer {
  const isWebSocket = answer.status === 101 && answer.webSocket !== null;
  if (answer.body === null && !isWebSocket) {
    release(context);
    return answer;
  }
  let isOver = false;
  const renewing = setInterval(() => {
    if (isOver) clearInterval(renewing);
    else context.waitUntil(edge.limiter.renew());
  }, HOLDER_MS / 3);
  const end = (): void => {
    isOver = true;
    clearInterval(renewing);
    release(context);
  };
  // A pod that is silent gives the stream no occasion to notice that the client has left.
  request.signal.addEventListener("abort", end);
  return isWebSocket ? relayed(answer, end) : streamed(answer, context, end);
}

/** Hands the body on natively. `onEnd` is called however it ends. */
function streamed(answer: Answer, context: ExecutionContext, onEnd: () => void): Answer {
  const { readable, writable } = new IdentityTransformStream();
  const sent = answer.body?.pipeTo(writable).catch(() => {
    // Broken off by either side: the slot is free all the same.
  });
  context.waitUntil((sent ?? Promise.resolve()).finally(onEnd));
  return new Response(readable, answer);
}
