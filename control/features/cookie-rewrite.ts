/** Other attributes for the pod's cookies. Reference §1, `proxy-cookie-domain`, `proxy-cookie-path`. */

import type { Replacement } from "../../edge-config/features/cookie-rewrite.ts";
import { type Reader, unreadable, value } from "../annotations/reader.ts";
import { defineFeature } from "./feature.ts";

export const cookieRewrite = defineFeature("cookieRewrite", {
  scope: "route",
  onInvalid: "ignore",
  doc: "Changes the Domain or Path of cookies that pods set.",
  annotations: {
    "proxy-cookie-domain": replacement(
      "`from to`: a Domain that is `from` becomes `to`.",
      "proxy-cookie-domain",
    ),
    "proxy-cookie-path": replacement(
      "`from to`: a Path that begins with `from` begins with `to` instead.",
      "proxy-cookie-path",
    ),
  },
  compile(annotations) {
    const domain = annotations["proxy-cookie-domain"];
    const path = annotations["proxy-cookie-path"];
    if ((domain ?? "off") === "off" && (path ?? "off") === "off") return undefined;
    return {
      ...(domain === undefined || domain === "off" ? {} : { domain }),
      ...(path === undefined || path === "off" ? {} : { path }),
    };
  },
});

/** Attributes of cookies have no semicolons, quotes or controls; patterns (`~…`) of nginx are not taken. */
function replacement(doc: string, setting: string): Reader<Replacement | "off"> {
  return {
    type: "off or two words",
    doc,
    maxLength: 1024,
    options: {
      defaultText: "off",
      setting,
      difference: "Text only; nginx's patterns (`~…`) and variables are refused.",
    },
    read(given) {
      if (given === "off") return value("off" as const);
      const [from, to, ...more] = given.split(/\s+/);
      const isText = (word: string | undefined): word is string =>
        word !== undefined && /^[^~$;"',\\\s][^$;"',\\\s]*$/.test(word);
      return isText(from) && isText(to) && more.length === 0
        ? value({ from, to })
        : unreadable('"off" or two words: from and to');
    },
  };
}
