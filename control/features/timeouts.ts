/** How long the edge waits for a pod. Reference §1, `proxy-connect-timeout`, `-send-`, `-read-`. */

import { seconds } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

const DEFAULTS = { connectSeconds: 5, sendSeconds: 60, readSeconds: 60 };

export const timeouts = defineFeature("timeouts", {
  scope: "route",
  onInvalid: "ignore",
  doc: "How long the edge waits for a pod before it answers 504 or breaks the answer off.",
  annotations: {
    "proxy-connect-timeout": seconds("Longest wait for a connection.", {
      min: 1,
      max: 86_400,
      default: DEFAULTS.connectSeconds,
      setting: "proxy-connect-timeout",
      difference:
        "The gateway connects: the embedded one within this time, HAProxy within its own (`--connect-timeout`). The Worker counts it into the wait for the first byte.",
    }),
    "proxy-send-timeout": seconds("Longest pause between two pieces of the request's body.", {
      min: 1,
      max: 86_400,
      default: DEFAULTS.sendSeconds,
      setting: "proxy-send-timeout",
    }),
    "proxy-read-timeout": seconds("Longest pause between two pieces of the answer, and before its first.", {
      min: 1,
      max: 86_400,
      default: DEFAULTS.readSeconds,
      setting: "proxy-read-timeout",
      difference:
        "Left at its default, it holds for the wait for the answer's head; written down, it holds between the pieces of the body too.",
    }),
  },
  compile(annotations) {
    const policy = {
      connectSeconds: annotations["proxy-connect-timeout"],
      sendSeconds: annotations["proxy-send-timeout"],
      readSeconds: annotations["proxy-read-timeout"],
    };
    const isDefault = Object.entries(DEFAULTS).every(
      ([name, value]) => policy[name as keyof typeof DEFAULTS] === value,
    );
    return isDefault ? undefined : policy;
  },
});
