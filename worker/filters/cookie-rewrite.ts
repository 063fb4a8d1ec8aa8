/** Other attributes for the pod's cookies (nginx's proxy_cookie_domain and proxy_cookie_path). */

import type { CookieRewritePolicy } from "../../edge-config/features/cookie-rewrite.ts";
import type { FilterFor } from "./filter.ts";

export const cookieRewrite: FilterFor<"cookieRewrite"> = (policy) => ({
  onResponse(answer, { answeredBy }) {
    if (answeredBy !== "origin") return undefined;
    const cookies = answer.headers.getSetCookie();
    if (cookies.length === 0) return undefined;
    answer.headers.delete("set-cookie");
    for (const cookie of cookies) answer.headers.append("Set-Cookie", rewriteCookie(cookie, policy));
    return undefined;
  },
});

function rewriteCookie(cookie: string, { domain, path }: CookieRewritePolicy): string {
  const [pair = "", ...attributes] = cookie.split(";");
  const changed = attributes.map((attribute) => {
    const [, space = "", name = "", value = ""] = /^(\s*)([^=]*)=(.*)$/.exec(attribute) ?? [];
    switch (name.trim().toLowerCase()) {
      case "domain": {
        // Whole, without case; a leading dot stays as it is.
        const dot = value.startsWith(".") ? "." : "";
        const isSame =
          domain !== undefined &&
          value.slice(dot.length).toLowerCase() === domain.from.replace(/^\./, "").toLowerCase();
        return isSame ? `${space}${name}=${dot}${domain.to.replace(/^\./, "")}` : attribute;
      }
      case "path":
        return path !== undefined && value.startsWith(path.from)
          ? `${space}${name}=${path.to}${value.slice(path.from.length)}`
          : attribute;
      default:
        return attribute;
    }
  });
  return [pair, ...changed].join(";");
}
