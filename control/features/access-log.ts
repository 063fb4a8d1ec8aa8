/** Whether requests of a route are logged. Reference §1, `enable-access-log`. */

import { flag } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const accessLog = defineFeature("accessLog", {
  scope: "route",
  onInvalid: "ignore",
  doc: "Leaves requests of the route out of the edge's access log (`ACCESS_LOG` in wrangler.toml).",
  annotations: {
    "enable-access-log": flag("`false` logs no request of this route.", { default: true }),
  },
  settings: {
    "disable-access-log": flag("`true` logs no request at all.", { default: false }),
  },
  compile: (annotations, _context, settings) =>
    annotations["enable-access-log"] && !settings["disable-access-log"] ? undefined : { enabled: false },
});
