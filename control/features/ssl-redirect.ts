/**
 * From http to https. Reference §1, `ssl-redirect`, `force-ssl-redirect`; §0.8.
 *
 * A rule whose own path begins with an entry of `no-tls-redirect-locations` is left alone: ingress-nginx compares
 * the rule's path, not the request's.
 */

import { flag, integer, list } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const sslRedirect = defineFeature("sslRedirect", {
  scope: "route",
  onInvalid: "ignore",
  doc: "Answers http requests with a redirect to https, where the host has a TLS section or the redirect is forced.",
  annotations: {
    "ssl-redirect": flag("Redirects where some Ingress of the host has a TLS section.", {
      default: true,
      setting: "ssl-redirect",
    }),
    "force-ssl-redirect": flag("Redirects even without a TLS section.", {
      default: false,
      setting: "force-ssl-redirect",
    }),
    "preserve-trailing-slash": flag("Keeps a slash at the end, which is stripped otherwise.", {
      default: false,
      setting: "preserve-trailing-slash",
    }),
    "use-port-in-redirects": flag("Writes the port (443) into the Location.", {
      default: false,
      setting: "use-port-in-redirects",
    }),
  },
  settings: {
    "http-redirect-code": integer("Status of the redirects to https and between www and non-www.", {
      default: 308,
      min: 300,
      max: 308,
    }),
    "no-tls-redirect-locations": list("Paths of rules that are never redirected to https.", {
      default: ["/.well-known/acme-challenge"],
      defaultText: "/.well-known/acme-challenge",
    }),
  },
  compile(annotations, { origin, tls, path }, settings) {
    if (origin === "catch-all") return undefined;
    if (!annotations["force-ssl-redirect"] && !(annotations["ssl-redirect"] && tls)) return undefined;
    if (settings["no-tls-redirect-locations"].some((prefix) => path.startsWith(prefix))) return undefined;
    return {
      status: settings["http-redirect-code"],
      keepsTrailingSlash: annotations["preserve-trailing-slash"],
      withPort: annotations["use-port-in-redirects"],
    };
  },
});
