/** The entry page of an application that does not live at `/`. Reference §1, `app-root`. */

import { text } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const appRoot = defineFeature("appRoot", {
  scope: "host",
  onInvalid: "omit",
  doc: "Answers a request for exactly `/` of the host with 302 to another path, before a route is chosen.",
  annotations: {
    "app-root": text("The path that `/` leads to.", {
      pattern: /^\/[!#%&()*+,\-./0-9:;=?@A-Z[\]_a-z~]*$/i,
      expected: "a path that begins with /",
      type: "path",
    }),
  },
  compile({ "app-root": location }) {
    return location === undefined ? undefined : { location };
  },
});
