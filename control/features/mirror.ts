/** A copy of every request for somebody else. Reference §1, `mirror-target`, `mirror-host`, `mirror-request-body`. */

import { onOff, text, url } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const mirror = defineFeature("mirror", {
  scope: "route",
  onInvalid: "omit",
  doc: "Sends a copy of every request somewhere else, without waiting for an answer.",
  annotations: {
    "mirror-target": url("Where the copy goes; a Service of the cluster is reached like any backend."),
    "mirror-host": text("`Host` of the copy.", {
      pattern: /^[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?$/,
      expected: "a host name",
      difference: "Only for targets inside the cluster: a Worker cannot choose the `Host` of a public URL.",
    }),
    "mirror-request-body": onOff("Whether the copy has the body.", { default: true, ignoreUnreadable: true }),
  },
  compile(annotations, context) {
    const target = annotations["mirror-target"];
    if (target === undefined) return undefined;
    const resolved = context.destination(target);
    if (resolved.kind === "Missing") {
      context.remark(
        "error",
        "mirror-target",
        `cannot be reached: ${resolved.reason}; requests are not mirrored.`,
      );
      return undefined;
    }
    const host = annotations["mirror-host"];
    return {
      destination: resolved.destination,
      ...(host === undefined ? {} : { host }),
      withBody: annotations["mirror-request-body"],
    };
  },
});
