/** Unconditional redirects (ngx_http_rewrite_module, `return`). */

import { errorPage, redirectPage } from "../error-page.ts";
import type { FilterFor } from "./filter.ts";
import { absoluteLocation } from "./location.ts";

/** The codes with which nginx sends a Location; with the others the text is the body. */
const WITH_LOCATION: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export const redirect: FilterFor<"redirect"> = ({ answer, relative }) => {
  if (answer === undefined) return undefined;
  const { status, location } = answer;
  return {
    onRequest(exchange) {
      if (status === 304) return new Response(null, { status });
      if (!WITH_LOCATION.has(status)) {
        const body = errorPage(status);
        return new Response(location, { status, headers: body.headers });
      }
      return redirectPage(status, relative ? location : absoluteLocation(exchange, location));
    },
  };
};
