/** Other beginnings for the pod's Location and Refresh. Reference §1, `proxy-redirect-from`, `proxy-redirect-to`. */

import { text } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

const SHAPE = {
  pattern: /^[^~$"'\\\s;{}]{1,1024}$/,
  expected: "a URL or the beginning of one, without variables",
  type: "text, off or default",
} as const;

export const redirectRewrite = defineFeature("redirectRewrite", {
  scope: "route",
  onInvalid: "ignore",
  doc: "Replaces the beginning of Location and Refresh headers of pods.",
  annotations: {
    "proxy-redirect-from": text("The beginning that is replaced; `off` and `default` replace nothing.", {
      ...SHAPE,
      default: "off",
      setting: "proxy-redirect-from",
    }),
    "proxy-redirect-to": text("What stands there instead.", {
      ...SHAPE,
      default: "off",
      setting: "proxy-redirect-to",
    }),
  },
  compile(annotations) {
    const from = annotations["proxy-redirect-from"];
    const to = annotations["proxy-redirect-to"];
    return from === "off" || from === "default" || to === "off" ? undefined : { from, to };
  },
});
