/**
 * Cross-Origin Resource Sharing as ingress-nginx does it (Fetch standard §3.2).
 *
 * Every OPTIONS request from an allowed origin is taken for a preflight and answered here; every other answer
 * for an allowed origin gets the CORS headers in place of the pod's own, the edge's errors included. Nothing is
 * done for other origins: their OPTIONS requests go to the pod, and the pod's own headers pass.
 * Like ingress-nginx, `Vary: Origin` is left to the pod.
 */

import type { CorsPolicy } from "../../edge-config/features/cors.ts";
import type { Answer, FilterFor } from "./filter.ts";

export const cors: FilterFor<"cors"> = (policy) => {
  const allow = originTest(policy.allowOrigins);
  const headers = corsHeaders(policy);

  const setHeaders = (answer: Answer, allowOrigin: string): Answer => {
    answer.headers.set("Access-Control-Allow-Origin", allowOrigin);
    for (const [name, value] of headers) answer.headers.set(name, value);
    return answer;
  };
  return {
    onRequest({ request }) {
      if (request.method !== "OPTIONS") return undefined;
      const allowOrigin = allow(request.headers.get("Origin"));
      if (allowOrigin === undefined) return undefined;
      return new Response(null, { status: 204 });
    },
    onResponse(answer, { request }) {
      const allowOrigin = allow(request.headers.get("Origin"));
      return allowOrigin === undefined ? undefined : setHeaders(answer, allowOrigin);
    },
  };
};

/** The same for every allowed origin, on preflights and on all other answers. */
function corsHeaders(policy: CorsPolicy): readonly (readonly [name: string, value: string])[] {
  const headers: [string, string][] = [];
  if (policy.allowCredentials) headers.push(["Access-Control-Allow-Credentials", "true"]);
  headers.push(["Access-Control-Allow-Methods", policy.allowMethods]);
  headers.push(["Access-Control-Allow-Headers", policy.allowHeaders]);
  if (policy.exposeHeaders !== undefined)
    headers.push(["Access-Control-Expose-Headers", policy.exposeHeaders]);
  headers.push(["Access-Control-Max-Age", String(policy.maxAgeSeconds)]);
  return headers;
}

/** Origin of a request → value of `Access-Control-Allow-Origin`, or `undefined` where it is not allowed. */
type OriginTest = (origin: string | null) => string | undefined;

/**
 * Compared whole and without regard to case. `*` alone allows all and is sent as it is, whatever the origin and
 * even without one; elsewhere it stands for exactly one DNS label.
 */
function originTest(allowOrigins: readonly string[]): OriginTest {
  if (allowOrigins.includes("*")) return () => "*";
  const exact = new Set<string>();
  const patterns: { readonly before: string; readonly after: string }[] = [];
  for (const origin of allowOrigins) {
    const lower = origin.toLowerCase();
    const star = lower.indexOf("*");
    if (star === -1) exact.add(lower);
    else patterns.push({ before: lower.slice(0, star), after: lower.slice(star + 1) });
  }
  return (origin) => {
    if (origin === null) return undefined;
    const lower = origin.toLowerCase();
    if (exact.has(lower)) return origin;
    const fits = patterns.some(
      ({ before, after }) =>
        lower.startsWith(before) &&
        lower.endsWith(after) &&
        LABEL.test(lower.slice(before.length, lower.length - after.length)),
    );
    return fits ? origin : undefined;
  };
}

const LABEL = /^[a-z0-9-]+$/;
