/** Other beginnings for the pod's Location and Refresh (nginx's proxy_redirect): plain text, any status. */

import type { FilterFor } from "./filter.ts";
import { absoluteLocation } from "./location.ts";

export const redirectRewrite: FilterFor<"redirectRewrite"> = ({ from, to }) => ({
  onResponse({ headers }, exchange) {
    if (exchange.answeredBy !== "origin") return undefined;
    const location = headers.get("location");
    if (location?.startsWith(from)) {
      const changed = to + location.slice(from.length);
      const isRelative = exchange.entry.route.policies?.redirect?.relative === true;
      headers.set("Location", isRelative ? changed : absoluteLocation(exchange, changed));
    }
    const [, before, url] = /^([^=]*url=)(.*)$/i.exec(headers.get("refresh") ?? "") ?? [];
    if (before !== undefined && url?.startsWith(from))
      headers.set("Refresh", before + to + url.slice(from.length));
    return undefined;
  },
});
