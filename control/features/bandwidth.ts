/** How fast an answer may go to a client. Reference §1, `limit-rate`, `limit-rate-after`. */

import { integer, onOff } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const bandwidth = defineFeature("bandwidth", {
  scope: "route",
  onInvalid: "ignore",
  doc: "Slows answers down to so many KB a second for each connection, where `proxy-buffering` is on, as in nginx.",
  annotations: {
    "limit-rate": integer("KB a second; 0 is off.", { default: 0, max: 1_000_000, setting: "limit-rate" }),
    "limit-rate-after": integer("KB that come first, as fast as they can.", {
      default: 0,
      max: 1_000_000,
      setting: "limit-rate-after",
    }),
    "proxy-buffering": onOff("Turns `limit-rate` on.", {
      default: false,
      defaultText: "off",
      setting: "proxy-buffering",
      difference: "Answers are streamed either way; without it limit-rate has no effect, as in nginx.",
    }),
  },
  compile(annotations) {
    const rate = annotations["limit-rate"];
    if (rate === 0 || !annotations["proxy-buffering"]) return undefined;
    return { bytesPerSecond: rate * 1024, afterBytes: annotations["limit-rate-after"] * 1024 };
  },
});
