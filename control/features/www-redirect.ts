/**
 * Redirects between `www.x` and `x`, towards the one that the Ingress has. Reference §1, `from-to-www-redirect`.
 * The counterpart becomes a host of its own, unless some Ingress has it.
 */

import { ANY_HOST } from "../../edge-config/config.ts";
import { flag, integer } from "../annotations/readers.ts";
import { type AddedHost, defineFeature } from "./feature.ts";

export const wwwRedirect = defineFeature("wwwRedirect", {
  scope: "host",
  onInvalid: "ignore",
  doc: "Answers requests for the counterpart of the host (`www.x` for `x`, and the other way round) with a redirect to the host, port included.",
  annotations: {
    "from-to-www-redirect": flag("Redirects the counterpart of each host of this Ingress.", {
      default: false,
    }),
  },
  settings: {
    "http-redirect-code": integer("Status of the redirects to https and between www and non-www.", {
      default: 308,
      min: 300,
      max: 308,
    }),
  },
  // The host itself is left as it is; only its counterpart gets the policy.
  compile: () => undefined,
  addedHosts(annotations, { host }, settings): readonly AddedHost[] {
    if (!annotations["from-to-www-redirect"] || host === ANY_HOST || host.startsWith("*.")) return [];
    const counterpart = host.startsWith("www.") ? host.slice(4) : `www.${host}`;
    return [
      {
        host: counterpart,
        policies: { wwwRedirect: { status: settings["http-redirect-code"], toHost: host } },
      },
    ];
  },
});
