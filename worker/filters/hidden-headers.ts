/** Headers of pods that no client gets (nginx's proxy_hide_header). */

import type { FilterFor } from "./filter.ts";

export const hiddenHeaders: FilterFor<"hiddenHeaders"> = ({ names }) => ({
  onResponse(answer, { answeredBy }) {
    if (answeredBy === "origin") for (const name of names) answer.headers.delete(name);
    return undefined;
  },
});
