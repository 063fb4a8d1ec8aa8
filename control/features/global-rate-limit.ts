/** So many requests in a window, over the whole edge. Reference §1b, `global-rate-limit*`: removed from ingress-nginx in 1.12. */

import { type Reader, unreadable, value } from "../annotations/reader.ts";
import { cidrs, integer, template } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const globalRateLimit = defineFeature("globalRateLimit", {
  scope: "route",
  onInvalid: "ignore",
  doc: "Lets so many requests of one key pass in a sliding window, counted over the whole edge; the others get 429.",
  annotations: {
    "global-rate-limit": integer("Requests in a window; 0 is off.", {
      default: 0,
      max: 1_000_000,
      difference: "Counted by Fairlead itself instead of a memcached.",
    }),
    "global-rate-limit-window": duration("The window: `30s`, `1m`, `2h`."),
    "global-rate-limit-key": template("What is counted together.", {
      default: [{ variable: "remote_addr" }],
      defaultText: "$remote_addr",
    }),
    "global-rate-limit-ignored-cidrs": cidrs("Clients that are never counted."),
  },
  settings: {
    "global-rate-limit-status-code": integer("Status of a refusal.", { default: 429, min: 400, max: 599 }),
  },
  compile(annotations, { ingress, remark }, settings) {
    const limit = annotations["global-rate-limit"];
    if (limit === 0) return undefined;
    const windowSeconds = annotations["global-rate-limit-window"];
    if (windowSeconds === undefined) {
      remark(
        "error",
        "global-rate-limit",
        "needs global-rate-limit-window, which is not given; nothing is limited.",
      );
      return undefined;
    }
    return {
      name: ingress ?? "",
      limit,
      windowSeconds,
      key: annotations["global-rate-limit-key"],
      exempt: annotations["global-rate-limit-ignored-cidrs"] ?? [],
      status: settings["global-rate-limit-status-code"],
    };
  },
});

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Go's durations, as far as people write them here. */
function duration(doc: string): Reader<number> {
  return {
    type: "duration",
    doc,
    maxLength: 64,
    options: { ignoreUnreadable: true },
    read(given) {
      const parts = [...given.matchAll(/([0-9]{1,7})([smhd])/g)];
      const total = parts.reduce(
        (sum, [, amount, unit]) => sum + Number(amount) * (UNITS[unit ?? ""] ?? 0),
        0,
      );
      const isWhole = parts.map(([part]) => part).join("") === given;
      return isWhole && total > 0 ? value(total) : unreadable("a time such as 30s, 1m or 2h");
    },
  };
}
