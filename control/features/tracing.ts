/** Trace context for pods. Reference §1, `enable-opentelemetry`, `opentelemetry-*`. */

import { flag, text } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const tracing = defineFeature("tracing", {
  scope: "route",
  onInvalid: "ignore",
  doc: "Gives every request a W3C trace context for the pods; spans are exported by Workers' own tracing.",
  annotations: {
    "enable-opentelemetry": flag("Sends `traceparent` to the pod.", {
      default: false,
      setting: "enable-opentelemetry",
      difference:
        "The context is made and handed on; spans are exported by Workers' own tracing (`[observability]` in wrangler.toml).",
    }),
    "opentelemetry-trust-incoming-span": flag("Believes the client's own `traceparent`.", {
      default: true,
      setting: "opentelemetry-trust-incoming-span",
      // Not to believe it is the closed side.
      unreadable: false,
    }),
    "opentelemetry-operation-name": text("Name of the span.", {
      pattern: /^[A-Za-z0-9_-]*$/,
      expected: "a name of letters, digits, _ and -",
      difference: "Accepted; Workers' own tracing names its spans itself.",
    }),
  },
  compile: (annotations) =>
    annotations["enable-opentelemetry"]
      ? { trustsIncoming: annotations["opentelemetry-trust-incoming-span"] }
      : undefined,
});
