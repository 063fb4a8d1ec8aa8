/** How large a request's body may be. Reference §1, `proxy-body-size`. */

import { DEFAULT_MAX_BODY_BYTES } from "../../edge-config/features/body-size.ts";
import { size } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const bodySize = defineFeature("bodySize", {
  scope: "route",
  onInvalid: "ignore",
  doc: "Answers 413 to a larger body: at once where Content-Length tells, else as soon as it has grown too large. The pod is not reached in the first case.",
  annotations: {
    "proxy-body-size": size("The largest body, exactly this many bytes pass; 0 for no limit.", {
      default: DEFAULT_MAX_BODY_BYTES,
      defaultText: "1m",
      setting: "proxy-body-size",
      difference:
        "A body without Content-Length is counted while it streams to the pod, which sees it broken off; nginx would have buffered it first. Cloudflare's own limit (100 MB on most plans) stands before ours.",
    }),
  },
  compile: ({ "proxy-body-size": maxBytes }) =>
    maxBytes === DEFAULT_MAX_BODY_BYTES ? undefined : { maxBytes },
});
