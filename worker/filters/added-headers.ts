/** Headers of the operator's own, for pods and for clients. */

import { fillTemplate } from "../template.ts";
import type { FilterFor } from "./filter.ts";

export const addedHeaders: FilterFor<"addedHeaders"> = ({ toClient, toPod }) => ({
  onRequest:
    toPod.length === 0
      ? undefined
      : (exchange) => {
          for (const [name, value] of toPod) exchange.upstream.setHeader(name, fillTemplate(value, exchange));
          return undefined;
        },
  onResponse:
    toClient.length === 0
      ? undefined
      : (answer) => {
          for (const [name, value] of toClient) answer.headers.set(name, value);
          return undefined;
        },
});
