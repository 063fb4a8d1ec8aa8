/** Headers of pods that no client gets. A key of the controller's ConfigMap (nginx's proxy_hide_header). */

import { headerNames } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const hiddenHeaders = defineFeature("hiddenHeaders", {
  scope: "route",
  // Without a list that can be read nothing is hidden, as in nginx; the error tells.
  onInvalid: "ignore",
  doc: "Takes headers of pods off their answers.",
  annotations: {},
  settings: { "hide-headers": headerNames("Names of headers that are taken off the answers of pods.") },
  compile(_annotations, _context, settings) {
    const names: readonly string[] = settings["hide-headers"] ?? [];
    return names.length === 0 ? undefined : { names: names.map((name) => name.toLowerCase()) };
  },
});
