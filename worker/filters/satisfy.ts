/**
 * `satisfy any` (ngx_http_core_module): stands behind all access checks, which only note their refusals then
 * (`Exchange.refuse`), and decides.
 */

import { errorPage } from "../error-page.ts";
import type { FilterFor } from "./filter.ts";

export const satisfy: FilterFor<"satisfy"> = () => ({
  onRequest(exchange) {
    const { isSatisfied, refusals } = exchange;
    if (isSatisfied || refusals.length === 0) return undefined;
    // An auth service that failed is nobody's fault but ours; then a 401 asks for what would let the client in.
    const failed = refusals.find(({ status }) => status === 500);
    if (failed !== undefined) return errorPage(500);
    const asking = refusals.filter(({ status }) => status === 401);
    if (asking.length === 0) return refusals[0]?.answer ?? errorPage(403);
    const answer = asking.find(({ answer }) => answer !== undefined)?.answer ?? errorPage(401);
    for (const { challenge } of asking) {
      if (challenge !== undefined) answer.headers.append("WWW-Authenticate", challenge);
    }
    return answer;
  },
});
