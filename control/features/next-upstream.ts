/** When a request goes on to another pod. Reference §1, `proxy-next-upstream*`. */

import { flag, integer, list, seconds } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

const STATUS = /^http_(403|404|429|500|502|503|504)$/;
const WORDS: ReadonlySet<string> = new Set(["error", "timeout", "invalid_header", "non_idempotent", "off"]);

export const nextUpstream = defineFeature("nextUpstream", {
  scope: "route",
  onInvalid: "ignore",
  doc: "When a request that failed at one endpoint goes on to another one.",
  annotations: {
    "proxy-next-upstream": list(
      "What counts as a failure: `error timeout http_503 non_idempotent …`, or `off`.",
      {
        separator: " ",
        type: "space-separated conditions",
        item: (item) => WORDS.has(item) || STATUS.test(item),
        expected:
          "error, timeout, invalid_header, http_403, _404, _429, _500, _502, _503, _504, non_idempotent or off, separated by spaces",
        default: ["error", "timeout"],
        defaultText: "error timeout",
        setting: "proxy-next-upstream",
      },
    ),
    "proxy-next-upstream-tries": integer("Attempts in all, the first included; 0 for no limit.", {
      default: 3,
      setting: "proxy-next-upstream-tries",
      difference:
        "0 ends after each endpoint has been tried three times, where nginx would ask a failing pod without end.",
    }),
    "proxy-next-upstream-timeout": seconds("No further attempt starts after this; 0 for no limit.", {
      default: 0,
      setting: "proxy-next-upstream-timeout",
    }),
  },
  settings: {
    "retry-non-idempotent": flag("POST, PATCH and LOCK are repeated too.", { default: false }),
  },
  compile(annotations, _context, settings) {
    const conditions = new Set(annotations["proxy-next-upstream"]);
    const off = conditions.has("off");
    const policy = {
      onError: !off && (conditions.has("error") || conditions.has("invalid_header")),
      onTimeout: !off && conditions.has("timeout"),
      statuses: off
        ? []
        : [...conditions]
            .flatMap((word) => STATUS.exec(word)?.[1] ?? [])
            .map(Number)
            .sort((a, b) => a - b),
      nonIdempotent: conditions.has("non_idempotent") || settings["retry-non-idempotent"],
      tries: annotations["proxy-next-upstream-tries"],
      timeoutSeconds: annotations["proxy-next-upstream-timeout"],
    };
    const isDefault =
      policy.onError &&
      policy.onTimeout &&
      policy.statuses.length === 0 &&
      !policy.nonIdempotent &&
      policy.tries === 3 &&
      policy.timeoutSeconds === 0;
    return isDefault ? undefined : policy;
  },
});
