/** Who may come by address (ngx_http_access_module). */

import { addressSet } from "../address-set.ts";
import type { FilterFor } from "./filter.ts";

export const accessList: FilterFor<"accessList"> = (policy) => {
  const deny = addressSet(policy.deny);
  const allow = policy.allow.length === 0 ? undefined : addressSet(policy.allow);
  return {
    onRequest(exchange) {
      const { client } = exchange;
      if (deny.has(client)) return exchange.refuse(403);
      if (allow === undefined) return undefined;
      if (!allow.has(client)) return exchange.refuse(403);
      exchange.satisfy();
      return undefined;
    },
  };
};
