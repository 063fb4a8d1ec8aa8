/** Whether one access check is enough. Reference §1, `satisfy`. */

import { choice } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const satisfy = defineFeature("satisfy", {
  scope: "route",
  // "all" asks more than "any", so it is the closed side.
  onInvalid: "omit",
  doc: "Whether a request must pass every access check (`all`) or one of them (`any`): address, basic auth, auth service.",
  annotations: {
    satisfy: choice("How many checks must be passed.", ["all", "any"], {
      default: "all",
      setting: "satisfy",
    }),
  },
  compile: ({ satisfy: mode }) => (mode === "any" ? { mode } : undefined),
});
