/** Whether requests of a route are logged; `../access-log.ts` is the log. */

import type { FilterFor } from "./filter.ts";

export const accessLog: FilterFor<"accessLog"> = () => ({
  onRequest(exchange) {
    exchange.isLogged = false;
    return undefined;
  },
});
