/** Whether requests of a route are logged; `../edge.ts` writes the log. */

import type { FilterFor } from "./filter.ts";

export const accessLog: FilterFor<"accessLog"> = () => ({
  onRequest(exchange) {
    exchange.isLogged = false;
    return undefined;
  },
});
