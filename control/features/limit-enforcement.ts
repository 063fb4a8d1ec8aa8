/** How limits are enforced at this edge: keys of our own in the controller's ConfigMap. */

import { choice, flag, integer } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const limitEnforcement = defineFeature("limitEnforcement", {
  scope: "edge",
  onInvalid: "ignore",
  doc: "Whether limits are exact over the whole edge or counted by each isolate, and how clients are told apart.",
  annotations: {},
  settings: {
    "fairlead-limit-mode": choice(
      "`global` counts in Durable Objects, exactly; `local` in each isolate.",
      ["global", "local"],
      {
        default: "global",
      },
    ),
    "fairlead-limit-ipv6-prefix": integer("IPv6 clients count by a prefix of so many bits.", {
      default: 64,
      min: 1,
      max: 128,
    }),
    "fairlead-limit-headers": flag("Sends `RateLimit` and `Retry-After`.", { default: false }),
  },
  compile(_annotations, _context, settings) {
    const policy = {
      mode: settings["fairlead-limit-mode"],
      ipv6PrefixLength: settings["fairlead-limit-ipv6-prefix"],
      headers: settings["fairlead-limit-headers"],
    };
    return policy.mode === "global" && policy.ipv6PrefixLength === 64 && !policy.headers ? undefined : policy;
  },
});
