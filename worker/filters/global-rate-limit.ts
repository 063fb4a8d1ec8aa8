/** So many requests in a sliding window, counted with every other isolate. */

import { addressSet } from "../address-set.ts";
import { errorPage } from "../error-page.ts";
import type { Exchange } from "../exchange.ts";
import type { Limits } from "../limits/ledger.ts";
import type { Admission } from "../limits/limiter.ts";
import { setRateLimitHeaders } from "../limits/rate-limit-headers.ts";
import { fillTemplate } from "../template.ts";
import type { Answer, FilterFor } from "./filter.ts";

export const globalRateLimit: FilterFor<"globalRateLimit"> = ({
  name,
  limit,
  windowSeconds,
  key,
  exempt,
  status,
}) => {
  const limits: Limits = { rates: [{ limit, windowMilliseconds: windowSeconds * 1000 }] };
  const ignored = exempt.length === 0 ? undefined : addressSet(exempt);

  const decide = (exchange: Exchange, admission: Admission): Answer | undefined => {
    if (admission.kind === "Admitted") return undefined;
    const answer = errorPage(status);
    if (exchange.edge.limitEnforcement.headers) setRateLimitHeaders(answer.headers, "global", admission);
    return answer;
  };

  return {
    onRequest(exchange) {
      if (ignored?.has(exchange.client)) return undefined;
      const text = fillTemplate(key, exchange);
      // As in ingress-nginx: what has no key is not limited.
      if (text === "") return undefined;
      const admission = exchange.edge.limiter.admit(`global ${name} ${text}`, limits, exchange.context);
      return admission instanceof Promise
        ? admission.then((settled) => decide(exchange, settled))
        : decide(exchange, admission);
    },
  };
};
