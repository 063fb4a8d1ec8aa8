/**
 * Headers of answers, from a ConfigMap. Reference §1, `custom-headers`.
 * Each name must stand in the controller's `global-allowed-response-headers`, which is the operator's say over
 * what tenants may send.
 */

import { headerNames, isHeaderName, quote, reference } from "../annotations/readers.ts";
import { defineFeature, deny } from "./feature.ts";

const VALUE = /^[\t\x20-\x7e\x80-\uffff]{0,4096}$/;

export const customHeaders = defineFeature("customHeaders", {
  scope: "route",
  onInvalid: "deny",
  doc: "Adds the headers of a ConfigMap to every answer of the route; values are literal.",
  annotations: {
    "custom-headers": reference("The ConfigMap whose entries are names and values of headers.", "ConfigMap"),
  },
  settings: {
    "global-allowed-response-headers": headerNames("Names of headers that `custom-headers` may set.", {
      default: [],
      defaultText: "none",
    }),
  },
  compile(annotations, { configMap }, settings) {
    const named = annotations["custom-headers"];
    if (named === undefined) return undefined;
    const found = configMap(named);
    if (found.kind === "Missing") return deny(found.reason);
    const allowed = new Set(settings["global-allowed-response-headers"].map((name) => name.toLowerCase()));
    const headers = Object.entries(found.object.data).sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [name, value] of headers) {
      if (!isHeaderName(name))
        return deny(`ConfigMap ${found.name} has the key ${quote(name)}, which is no name of a header`);
      if (!allowed.has(name.toLowerCase())) {
        return deny(
          `ConfigMap ${found.name} sets ${name}, which "global-allowed-response-headers" does not name`,
        );
      }
      if (!VALUE.test(value))
        return deny(`ConfigMap ${found.name} has a value of ${name} that no header can have`);
    }
    return headers.length === 0 ? undefined : { headers };
  },
});
