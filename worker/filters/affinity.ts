/** A client stays with a pod (ingress-nginx's sticky balancers). */

import type { AffinityPolicy } from "../../edge-config/features/affinity.ts";
import type { BackendPool } from "../balance/backend-pool.ts";
import type { Endpoint } from "../balance/balancer.ts";
import { type SessionKeys, sessionKeys } from "../balance/session-keys.ts";
import { readCookie } from "../cookies.ts";
import type { Exchange } from "../exchange.ts";
import type { FilterFor } from "./filter.ts";

export const affinity: FilterFor<"affinity"> = (policy) => {
  const { cookie, changeOnFailure, mode } = policy;
  /** By the list of endpoints: a backend that changes has a new one. */
  const keysOf = new WeakMap<readonly Endpoint[], SessionKeys>();
  const keys = (pool: BackendPool): SessionKeys => {
    let found = keysOf.get(pool.endpoints);
    if (found === undefined) {
      found = sessionKeys(mode, pool);
      keysOf.set(pool.endpoints, found);
    }
    return found;
  };
  return {
    onRequest({ request, upstream }) {
      const pool = upstream.backend;
      const value = readCookie(request, cookie.name);
      if (pool === undefined || value === undefined || upstream.isOutsideSessions) return undefined;
      const endpoint = keys(pool).find(decoded(value));
      if (endpoint !== undefined) upstream.session = { endpoint, isFixed: !changeOnFailure };
      return undefined;
    },
    onResponse(answer, exchange) {
      const { upstream } = exchange;
      const { backend: pool, usedEndpoint } = upstream;
      if (pool === undefined || usedEndpoint === undefined || upstream.isOutsideSessions) return undefined;
      if (usedEndpoint === upstream.session?.endpoint) return undefined;
      answer.headers.append("Set-Cookie", bake(keys(pool).mint(usedEndpoint), cookie, exchange));
      return undefined;
    },
  };
};

/** Some clients escape the bar. */
function decoded(value: string): string {
  return value.replaceAll(/%7c/gi, "|");
}

/** In the order in which lua-resty-cookie writes attributes. */
function bake(value: string, cookie: AffinityPolicy["cookie"], { request, target }: Exchange): string {
  const parts = [`${cookie.name}=${value}`];
  if (cookie.expiresSeconds !== undefined)
    parts.push(`Expires=${cookieDate(Date.now() + cookie.expiresSeconds * 1000)}`);
  if (cookie.maxAgeSeconds !== undefined) parts.push(`Max-Age=${cookie.maxAgeSeconds}`);
  if (cookie.domain !== undefined) parts.push(`Domain=${cookie.domain}`);
  parts.push(`Path=${cookie.path}`);
  if (cookie.secure || target.scheme === "https") parts.push("Secure");
  parts.push("HttpOnly");
  const leftOut =
    cookie.conditionalSameSiteNone &&
    cookie.sameSite === "None" &&
    misreadsNone(request.headers.get("user-agent") ?? "");
  if (cookie.sameSite !== undefined && !leftOut) parts.push(`SameSite=${cookie.sameSite}`);
  return parts.join("; ");
}

/** `Mon, 02-Jan-06 15:04:05 GMT`, the older form with dashes and two digits, as ngx.cookie_time writes it. */
function cookieDate(time: number): string {
  const [, day, date, month, year, clock] =
    /^(\w+), (\d+) (\w+) \d\d(\d\d) ([\d:]+) GMT$/.exec(new Date(time).toUTCString()) ?? [];
  return `${day}, ${date}-${month}-${year} ${clock} GMT`;
}

/** Browsers that take `SameSite=None` for `Strict` (https://www.chromium.org/updates/same-site/incompatible-clients/). */
function misreadsNone(userAgent: string): boolean {
  return (
    /Chrome\/[4-6]\d?\./.test(userAgent) ||
    /\(iP.+; CPU .*OS 12[_\d]*.*\) AppleWebKit\//.test(userAgent) ||
    (/\(Macintosh;.*Mac OS X 10_14[_\d]*.*\) AppleWebKit\//.test(userAgent) &&
      /Version\/.* Safari\//.test(userAgent) &&
      !userAgent.includes("Chrome"))
  );
}
