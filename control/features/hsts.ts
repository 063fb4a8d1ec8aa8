/** Strict-Transport-Security. Reference §0.7; keys of the controller's ConfigMap. */

import { flag, integer } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const hsts = defineFeature("hsts", {
  scope: "route",
  onInvalid: "ignore",
  doc: "Sends Strict-Transport-Security over https for hosts with a TLS section, in place of the pod's own.",
  annotations: {},
  settings: {
    hsts: flag("Whether it is sent.", { default: true }),
    "hsts-max-age": integer("How long browsers insist on https, in seconds.", { default: 31_536_000 }),
    "hsts-include-subdomains": flag("Names below the host are included.", { default: true }),
    "hsts-preload": flag("Asks browsers to ship the host in their lists.", { default: false }),
  },
  compile(_annotations, { tls }, settings) {
    if (!tls || !settings.hsts) return undefined;
    const subdomains = settings["hsts-include-subdomains"] ? "; includeSubDomains" : "";
    const preload = settings["hsts-preload"] ? "; preload" : "";
    return { value: `max-age=${settings["hsts-max-age"]}${subdomains}${preload}` };
  },
});
