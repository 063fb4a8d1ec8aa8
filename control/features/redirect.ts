/**
 * Unconditional redirects. Reference §1, `permanent-redirect`, `temporal-redirect`, `relative-redirects`.
 *
 * The location is literal text: neither path nor query of the request is appended, and nginx variables in it are
 * refused, as ingress-nginx refuses them.
 */

import { flag, integer, text } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

const LOCATION = {
  // Printable ASCII without what nginx's validation refuses: quotes, braces, `$`, `\`, `^`, backquote, `|`, `<`, `>`.
  pattern: /^(?:https?:\/\/[^/?#\s"'$<>\\^`{|}]|\/)[!#%&()*+,\-./0-9:;=?@A-Z[\]_a-z~]*$/i,
  expected: "an http(s) URL or a path that begins with /, without nginx variables",
  type: "URL or path",
} as const;

export const redirect = defineFeature("redirect", {
  scope: "route",
  onInvalid: "omit",
  doc: "Answers every request of the route with a redirect, before the HTTPS redirect, limits and access checks, and after a CORS preflight.",
  annotations: {
    "permanent-redirect": text("Where every request is sent for good.", LOCATION),
    "permanent-redirect-code": integer(
      "Status of the permanent redirect: 300 to 308, anything else counts as 301.",
      {
        default: 301,
        ignoreUnreadable: true,
      },
    ),
    "temporal-redirect": text(
      "Where every request is sent for now; wins over `permanent-redirect`.",
      LOCATION,
    ),
    "temporal-redirect-code": integer(
      "Status of the temporary redirect: 300 to 307, anything else counts as 302.",
      {
        default: 302,
        ignoreUnreadable: true,
      },
    ),
    "relative-redirects": flag(
      "A location that begins with `/` is sent as it is, instead of with scheme and host; also for the redirect to a trailing slash.",
      { default: false, ignoreUnreadable: true, setting: "relative-redirects" },
    ),
  },
  compile(annotations, { origin }) {
    const relative = annotations["relative-redirects"];
    const permanent = annotations["permanent-redirect"];
    const temporal = annotations["temporal-redirect"];
    const location = temporal ?? permanent;
    if (origin === "catch-all" || location === undefined) return relative ? { relative } : undefined;
    const status =
      temporal !== undefined
        ? inRange(annotations["temporal-redirect-code"], 307, 302)
        : inRange(annotations["permanent-redirect-code"], 308, 301);
    return { answer: { status, location }, relative };
  },
});

function inRange(code: number, last: number, otherwise: number): number {
  return code >= 300 && code <= last ? code : otherwise;
}
