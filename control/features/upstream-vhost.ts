/** Another `Host` for the pod. Reference §1, `upstream-vhost`. */

import { text } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const upstreamVhost = defineFeature("upstreamVhost", {
  scope: "route",
  onInvalid: "omit",
  doc: "Sends another `Host` header to the pod; the name in the TLS handshake stays.",
  annotations: {
    "upstream-vhost": text("The `Host` that the pod sees.", {
      pattern: /^(?:[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/,
      expected: "a host name, with a port if need be",
      type: "host name",
      maxLength: 260,
    }),
  },
  compile({ "upstream-vhost": host }) {
    return host === undefined ? undefined : { host };
  },
});
