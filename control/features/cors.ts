/**
 * Cross-Origin Resource Sharing (Fetch standard §3.2). Reference §1, CORS.
 *
 * Where a value cannot be read, the closed side counts: no origin is allowed that was not understood, and no
 * credentials are. Blank means absent, and absent means ingress-nginx's documented default.
 */

import { type Reader, type ReaderOptions, type Reading, unreadable, value } from "../annotations/reader.ts";
import { flag, integer, isHeaderName, quote } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

const METHODS = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS =
  "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";

export const cors = defineFeature("cors", {
  scope: "route",
  onInvalid: "omit",
  doc: "Answers CORS preflights at the edge with 204, before authentication and limits, and adds the CORS headers to every answer for an allowed origin, the edge's own errors included.",
  annotations: {
    "enable-cors": flag("Turns CORS on for every path of this Ingress.", { default: false }),
    "cors-allow-origin": origins(
      "The origins that may read answers: `scheme://host[:port]`, `*` in it for one DNS label, `null`, or `*` alone for any.",
    ),
    "cors-allow-methods": tokens("Value of `Access-Control-Allow-Methods`, sent as written.", {
      default: METHODS,
    }),
    "cors-allow-headers": tokens("Value of `Access-Control-Allow-Headers`, sent as written.", {
      default: HEADERS,
    }),
    "cors-expose-headers": tokens(
      "Value of `Access-Control-Expose-Headers`, sent as written; without it none is sent.",
    ),
    "cors-allow-credentials": flag("Whether `Access-Control-Allow-Credentials: true` is sent.", {
      default: true,
      unreadable: false,
    }),
    "cors-max-age": integer("How long a browser may keep a preflight answer, in seconds.", {
      default: 1_728_000,
      ignoreUnreadable: true,
    }),
  },
  compile(annotations, context) {
    if (!annotations["enable-cors"]) return undefined;
    const allowOrigins = annotations["cors-allow-origin"] ?? ["*"];
    const allowCredentials = annotations["cors-allow-credentials"];
    if (allowCredentials && allowOrigins.includes("*")) {
      context.remark(
        annotations["cors-allow-origin"] === undefined ? "info" : "warning",
        "cors-allow-credentials",
        'is in force (it is the default) together with the origin "*", as in ingress-nginx; browsers refuse answers to requests with credentials then. Name the origins, or set it to "false".',
      );
    }
    const exposeHeaders = annotations["cors-expose-headers"];
    return {
      allowOrigins,
      allowMethods: annotations["cors-allow-methods"],
      allowHeaders: annotations["cors-allow-headers"],
      ...(exposeHeaders === undefined ? {} : { exposeHeaders }),
      allowCredentials,
      maxAgeSeconds: annotations["cors-max-age"],
    };
  },
});

/** The text of a header that lists methods or names of headers: all are tokens (RFC 9110 §5.6.2, §9.1). */
function tokens<A extends string | undefined = undefined>(
  doc: string,
  options: ReaderOptions<string, A> = {},
): Reader<string, A> {
  return {
    type: "comma-separated names",
    doc,
    maxLength: 8192,
    options,
    read(text) {
      const items = text.split(",").map((item) => item.trim());
      if (!items.every((item) => item === "" || item === "*" || isHeaderName(item)))
        return unreadable("a comma-separated list of names");
      return value(/[\r\n]/.test(text) ? items.filter((item) => item !== "").join(", ") : text);
    },
  };
}

/**
 * Wrong items are left out, as in ingress-nginx; when none is left the text is unreadable, and never `*`.
 * `*` swallows the others. Origins are lower-cased: browsers send them so, and comparing ignores case.
 */
function origins(doc: string): Reader<readonly string[]> {
  return {
    type: "comma-separated origins",
    doc,
    maxLength: 65_536,
    options: { defaultText: "*" },
    read: readOrigins,
  };
}

function readOrigins(text: string): Reading<readonly string[]> {
  const items = text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
  if (items.includes("*")) return value(["*"]);
  const right = items.filter(isOrigin);
  const wrong = items.filter((item) => !isOrigin(item));
  if (right.length === 0)
    return unreadable("a comma-separated list of origins such as https://*.example.com");
  return value(
    [...new Set(right.map((origin) => origin.toLowerCase()))],
    wrong.map(
      (item) => `contains ${quote(item)}, which is not an origin (scheme://host[:port]); it is left out.`,
    ),
  );
}

function isOrigin(text: string): boolean {
  if (text === "null") return true;
  const [, host, port] =
    /^[a-z][a-z0-9+.-]{0,31}:\/\/((?:\*\.)?[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?$/i.exec(
      text,
    ) ?? [];
  return host !== undefined && (port === undefined || Number(port) <= 65_535);
}
