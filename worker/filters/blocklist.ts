/** Who is refused everywhere (nginx's deny, and ingress-nginx's maps of user agents and referers). */

import type { BlockedText } from "../../edge-config/features/blocklist.ts";
import { compilePattern } from "../../edge-config/pattern/pattern.ts";
import { utf8AsLatin1 } from "../../edge-config/pattern/syntax.ts";
import { addressSet } from "../address-set.ts";
import { errorPage } from "../error-page.ts";
import type { FilterFor } from "./filter.ts";

export const blocklist: FilterFor<"blocklist"> = ({ cidrs, userAgents, referers }) => {
  const blocked = cidrs.length === 0 ? undefined : addressSet(cidrs);
  const isUserAgentBlocked = textTest(userAgents);
  const isRefererBlocked = textTest(referers);
  return {
    onRequest(exchange) {
      const { headers } = exchange.request;
      const isBlocked =
        blocked?.has(exchange.client) === true ||
        isUserAgentBlocked?.(headers.get("user-agent") ?? "") === true ||
        isRefererBlocked?.(headers.get("referer") ?? "") === true;
      return isBlocked ? errorPage(403) : undefined;
    },
  };
};

function textTest(list: readonly BlockedText[]): ((given: string) => boolean) | undefined {
  if (list.length === 0) return undefined;
  const texts = new Set<string>();
  const tests: ((given: string) => boolean)[] = [];
  for (const item of list) {
    if (item.kind === "Text") {
      texts.add(item.text);
      continue;
    }
    // nginx looks for a match anywhere; ours are anchored at the start.
    const compiled = compilePattern(`(?s:.*?)(?:${item.pattern})`, { ignoreCase: item.ignoreCase });
    tests.push(
      compiled.kind === "pattern" ? (given) => compiled.pattern.test(utf8AsLatin1(given)) : () => true,
    );
  }
  return (given) => texts.has(given.toLowerCase()) || tests.some((test) => test(given));
}
