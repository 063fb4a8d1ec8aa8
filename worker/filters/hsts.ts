/** Strict-Transport-Security on every answer over https; over http it would mean nothing (RFC 6797 §7.2). */

import type { FilterFor } from "./filter.ts";

export const hsts: FilterFor<"hsts"> = ({ value }) => ({
  onResponse(answer, { target }) {
    if (target.scheme === "https") answer.headers.set("Strict-Transport-Security", value);
    return undefined;
  },
});
