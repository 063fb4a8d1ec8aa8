/** Which requests go to the canary: by header, then by cookie, then by weight (ingress-nginx's balancer.lua). */

import type { CanaryPolicy } from "../../edge-config/features/canary.ts";
import { compilePattern } from "../../edge-config/pattern/pattern.ts";
import { utf8AsLatin1 } from "../../edge-config/pattern/syntax.ts";
import { backendHash } from "../balance/session-keys.ts";
import { readCookie } from "../cookies.ts";
import type { FilterFor } from "./filter.ts";

/** `undefined`: this rule says nothing, the next one is asked. */
type Rule = (request: Request) => boolean | undefined;

export const canary: FilterFor<"canary"> = (policy, { host, route }) => {
  const pool = host.backends.get(policy.backend);
  const main = route.backend === undefined ? undefined : host.backends.get(route.backend);
  if (pool === undefined) return undefined;
  const session = route.policies?.affinity?.cookie.name;
  const rules: Rule[] = [];
  if (policy.header !== undefined) rules.push(headerRule(policy.header));
  const { cookie, weight, weightTotal } = policy;
  if (cookie !== undefined) rules.push((request) => alwaysNever(readCookie(request, cookie)));
  if (weight > 0) rules.push(() => Math.floor(Math.random() * weightTotal) < weight);
  return {
    onRequest(exchange) {
      // A canary without pods is none: its requests would only fail.
      if (pool.endpoints.length === 0) return undefined;
      if (session !== undefined && policy.sticky) {
        // A client that is bound to one of the two stays there; its cookie tells which.
        const value = readCookie(exchange.request, session);
        if (value?.endsWith(backendHash(pool))) {
          exchange.upstream.backend = pool;
          return undefined;
        }
        if (main !== undefined && value?.endsWith(backendHash(main))) return undefined;
      }
      for (const rule of rules) {
        const isCanary = rule(exchange.request);
        if (isCanary === undefined) continue;
        if (isCanary) {
          exchange.upstream.backend = pool;
          exchange.upstream.isOutsideSessions = !policy.sticky;
        }
        return undefined;
      }
      return undefined;
    },
  };
};

function headerRule({ name, match }: NonNullable<CanaryPolicy["header"]>): Rule {
  switch (match.kind) {
    case "AlwaysNever":
      return (request) => alwaysNever(request.headers.get(name));
    case "Value":
      return (request) => (request.headers.get(name) === match.value ? true : undefined);
    case "Pattern": {
      // PCRE looks for a match anywhere; ours are anchored at the start.
      const compiled = compilePattern(`(?s:.*?)(?:${match.pattern})`, { ignoreCase: false });
      if (compiled.kind === "refused") return () => false;
      return (request) => {
        const given = request.headers.get(name);
        return given !== null && compiled.pattern.test(utf8AsLatin1(given)) ? true : undefined;
      };
    }
    default:
      return match satisfies never;
  }
}

function alwaysNever(given: string | null | undefined): boolean | undefined {
  return given === "always" ? true : given === "never" ? false : undefined;
}
