/** From http to https, as ingress-nginx's Lua writes it. */

import { redirectPage } from "../error-page.ts";
import type { FilterFor } from "./filter.ts";
import { requestUri } from "./location.ts";

export const sslRedirect: FilterFor<"sslRedirect"> = ({ status, keepsTrailingSlash, withPort }) => ({
  onRequest(exchange) {
    const { target } = exchange;
    if (target.scheme === "https") return undefined;
    const uri = requestUri(exchange);
    const rest = !keepsTrailingSlash && uri.endsWith("/") ? uri.slice(0, -1) : uri;
    return redirectPage(status, `https://${target.host}${withPort ? ":443" : ""}${rest}`);
  },
});
