/**
 * A service that is asked about every request (ngx_http_auth_request_module, as ingress-nginx sets it up).
 *
 * Closed when in doubt: only 2xx lets a request pass; 3xx, other errors and silence are 500. Headers that the
 * service may give to the pod are taken away from the client's request first.
 */

import type { ExternalAuthPolicy } from "../../edge-config/features/external-auth.ts";
import { redirectPage } from "../error-page.ts";
import type { Exchange } from "../exchange.ts";
import { WeightedLru } from "../lru.ts";
import { fetchDestination } from "../origin/destination.ts";
import { clientHeaders } from "../origin/headers.ts";
import { escapeUri, fillTemplate } from "../template.ts";
import type { FilterFor } from "./filter.ts";
import { requestUri } from "./location.ts";

/** What matters of an answer of the service. */
interface Verdict {
  readonly status: number;
  readonly challenge: string | undefined;
  /** For the pod; `undefined` takes the client's own away. */
  readonly headers: readonly (readonly [name: string, value: string | undefined])[];
  readonly cookies: readonly string[];
  /** What the service itself says of remembering it; `undefined`: nothing. */
  readonly lifetimeSeconds: number | undefined;
}

const MAX_CACHED = 10_000;
const UNREACHABLE: Verdict = {
  status: 500,
  challenge: undefined,
  headers: [],
  cookies: [],
  lifetimeSeconds: 0,
};
/** With these of the pod, nginx's `add_header` hands the service's cookies on. */
const COOKIE_STATUSES: ReadonlySet<number> = new Set([200, 201, 204, 206, 301, 302, 303, 304, 307, 308]);
/** Headers of a body that is not sent, and of the connection. */
const NOT_ASKED: readonly string[] = [
  "content-length",
  "content-type",
  "transfer-encoding",
  "x-forwarded-proto",
];

export const externalAuth: FilterFor<"externalAuth"> = (policy) => {
  const { signin, cache, alwaysSetCookie } = policy;
  const remembered = new WeightedLru<string, { readonly verdict: Verdict; readonly until: number }>(
    MAX_CACHED,
  );
  const cookies = new WeakMap<Exchange, readonly string[]>();

  const ask = async (exchange: Exchange): Promise<Verdict> => {
    if (cache === undefined) return askService(policy, exchange);
    const key = fillTemplate(cache.key, exchange);
    if (key === "") return askService(policy, exchange);
    const now = Date.now();
    const known = remembered.get(key);
    if (known !== undefined && known.until > now) return known.verdict;
    const verdict = await askService(policy, exchange);
    const seconds = lifetime(verdict, cache.durations);
    if (seconds > 0) remembered.set(key, { verdict, until: now + seconds * 1000 }, 1);
    return verdict;
  };

  return {
    async onRequest(exchange) {
      if (exchange.isSatisfied) return undefined;
      const verdict = await ask(exchange);
      if (verdict.cookies.length > 0) cookies.set(exchange, verdict.cookies);
      if (verdict.status >= 200 && verdict.status < 300) {
        for (const [name, value] of verdict.headers) {
          if (value === undefined) exchange.upstream.removeHeader(name);
          else exchange.upstream.setHeader(name, value);
        }
        exchange.satisfy();
        return undefined;
      }
      if (verdict.status === 401) {
        return exchange.refuse(401, verdict.challenge === undefined ? {} : { challenge: verdict.challenge });
      }
      return exchange.refuse(verdict.status === 403 ? 403 : 500);
    },
    onResponse(answer, exchange) {
      // A 401 of any of our checks asks the client to sign in; one of the pod is the pod's own affair.
      const isSentToSignIn =
        signin !== undefined && answer.status === 401 && exchange.answeredBy === "filter";
      const shown = isSentToSignIn ? redirectPage(302, signinLocation(signin, exchange)) : answer;
      const given = cookies.get(exchange);
      if (given !== undefined && (alwaysSetCookie || COOKIE_STATUSES.has(shown.status))) {
        for (const cookie of given) shown.headers.append("Set-Cookie", cookie);
      }
      return shown;
    },
  };
};

async function askService(policy: ExternalAuthPolicy, exchange: Exchange): Promise<Verdict> {
  const { request, target } = exchange;
  const headers = clientHeaders(request);
  for (const name of NOT_ASKED) headers.delete(name);
  headers.set("X-Original-URL", `${target.scheme}://${target.authority}${requestUri(exchange)}`);
  headers.set("X-Original-Method", request.method);
  headers.set("X-Sent-From", "nginx-ingress-controller");
  headers.set("X-Real-IP", exchange.client);
  headers.set("X-Forwarded-For", exchange.client);
  headers.set("X-Request-ID", exchange.requestId);
  headers.set(
    "X-Auth-Request-Redirect",
    policy.requestRedirect === undefined
      ? requestUri(exchange)
      : fillTemplate(policy.requestRedirect, exchange),
  );
  if (policy.method !== undefined) {
    headers.set("X-Original-URI", requestUri(exchange));
    headers.set("X-Scheme", target.scheme);
  }
  for (const [name, value] of policy.requestHeaders) headers.set(name, value);
  const answer = await fetchDestination(exchange, policy.service, {
    method: policy.method ?? "GET",
    headers,
  });
  if (answer === undefined) return UNREACHABLE;
  exchange.context.waitUntil(answer.body?.cancel().catch(() => {}) ?? Promise.resolve());
  return {
    status: answer.status,
    challenge: answer.headers.get("www-authenticate") ?? undefined,
    headers: policy.responseHeaders.map((name) => [name, answer.headers.get(name) ?? undefined] as const),
    cookies: answer.headers.getSetCookie(),
    lifetimeSeconds: ownLifetime(answer.headers),
  };
}

/** Seconds for which a verdict may be remembered. One with cookies never is: they are one client's own. */
function lifetime(
  { status, cookies, lifetimeSeconds }: Verdict,
  durations: NonNullable<ExternalAuthPolicy["cache"]>["durations"],
): number {
  if (status >= 500 || cookies.length > 0) return 0;
  if (lifetimeSeconds !== undefined) return lifetimeSeconds;
  return durations.find(({ statuses }) => statuses.length === 0 || statuses.includes(status))?.seconds ?? 0;
}

/** As nginx's proxy_cache reads it: Cache-Control counts before the configured times. */
function ownLifetime(headers: Headers): number | undefined {
  if (headers.get("vary")?.trim() === "*") return 0;
  const control = headers.get("cache-control")?.toLowerCase() ?? "";
  if (/(?:^|[\s,])(?:no-cache|no-store|private)(?:$|[\s,=])/.test(control)) return 0;
  const [, seconds] = /(?:^|[\s,])(?:s-maxage|max-age)=(\d{1,9})/.exec(control) ?? [];
  return seconds === undefined ? undefined : Number(seconds);
}

function signinLocation(
  { url, redirectParameter }: NonNullable<ExternalAuthPolicy["signin"]>,
  exchange: Exchange,
): string {
  const location = fillTemplate(url, exchange);
  if (redirectParameter === undefined) return location;
  const { scheme, authority } = exchange.target;
  const from = `${scheme}://${authority}${escapeUri(requestUri(exchange))}`;
  return `${location}${location.includes("?") ? "&" : "?"}${redirectParameter}=${from}`;
}
