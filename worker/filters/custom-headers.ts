/** Headers of every answer of the route, refusals included (`more_set_headers`). */

import type { FilterFor } from "./filter.ts";

export const customHeaders: FilterFor<"customHeaders"> = ({ headers }) => ({
  onResponse(answer) {
    for (const [name, value] of headers) answer.headers.set(name, value);
    return undefined;
  },
});
