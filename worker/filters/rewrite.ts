/**
 * Another path for the pod (ngx_http_rewrite_module, `rewrite … break`).
 *
 * The groups come from the normalised, decoded path that was matched, and what is made of them is encoded again
 * for the pod; the query stays as it came. A group that took no part is empty.
 */

import { compilePattern, type Pattern } from "../../edge-config/pattern/pattern.ts";
import { utf8AsLatin1 } from "../../edge-config/pattern/syntax.ts";
import { redirectPage } from "../error-page.ts";
import type { Exchange } from "../exchange.ts";
import { encodePath } from "../path.ts";
import type { FilterFor } from "./filter.ts";

export const rewrite: FilterFor<"rewrite"> = (policy, { route }) => {
  const { forwardedPrefix } = policy;
  const send = (exchange: Exchange, path: string): undefined => {
    exchange.upstream.path = path;
    if (forwardedPrefix !== undefined) exchange.upstream.setHeader("x-forwarded-prefix", forwardedPrefix);
  };
  if (policy.kind === "Prefix") {
    const own = utf8AsLatin1(route.path);
    return { onRequest: (exchange) => send(exchange, replacePrefix(exchange.path, own, policy.target)) };
  }
  const compiled = compilePattern(route.path, { ignoreCase: true });
  // Control has refused such a path, so the route is not in the table.
  if (compiled.kind === "refused") return undefined;
  const { pattern } = compiled;
  if (policy.redirects) {
    return {
      onRequest(exchange) {
        const location = fill(policy.target, pattern, exchange.path, encodePath);
        return redirectPage(302, location + exchange.target.query);
      },
    };
  }
  return {
    onRequest: (exchange) =>
      send(
        exchange,
        fill(policy.target, pattern, exchange.path, (group) => group),
      ),
  };
};

function fill(
  target: readonly (string | number)[],
  pattern: Pattern,
  path: string,
  write: (group: string) => string,
): string {
  let groups: readonly string[] | undefined;
  let result = "";
  for (const piece of target) {
    if (typeof piece === "string") {
      result += piece;
      continue;
    }
    groups ??= pattern.match(path) ?? [];
    result += write(groups[piece] ?? "");
  }
  return result;
}

/** `/something` → target `/new`: `/something` gives `/new/`, `/something/x` gives `/new/x`; under `/` all is appended. */
function replacePrefix(path: string, own: string, target: string): string {
  const rest = path.slice(own.length).replace(/^\//, "");
  return `${target.endsWith("/") ? target.slice(0, -1) : target}/${rest}`;
}
