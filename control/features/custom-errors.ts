/** Error pages from a service. Reference §1, `default-backend`, `custom-http-errors`, `disable-proxy-intercept-errors`. */

import { flag, serviceName, statusCodes } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const customErrors = defineFeature("customErrors", {
  scope: "route",
  onInvalid: "omit",
  doc: "Shows errors through a service that makes the pages. A refusal by an access check keeps its status, whatever the service answers.",
  annotations: {
    "default-backend": serviceName(
      "The Service of error pages (its first port); it also gets the requests of a backend without endpoints.",
    ),
    "custom-http-errors": statusCodes("Statuses that are shown through it.", {
      setting: "custom-http-errors",
      difference:
        "A 401, 403 or 500 of an access check keeps its status (CVE-2026-24513), and the service gets no body.",
    }),
    "disable-proxy-intercept-errors": flag(
      "Errors of pods pass as they are; only the edge's own are shown through the service.",
      {
        default: false,
        setting: "disable-proxy-intercept-errors",
        ignoreUnreadable: true,
      },
    ),
  },
  compile(annotations, context) {
    const statuses = annotations["custom-http-errors"] ?? [];
    const named = annotations["default-backend"];
    let backend: string | undefined;
    if (named !== undefined) {
      const found = context.service(named);
      const port = found.kind === "Found" ? found.object.ports[0]?.port : undefined;
      if (found.kind === "Missing")
        context.remark(
          "error",
          "default-backend",
          `names a Service that cannot be used: ${found.reason}; it is ignored.`,
        );
      else if (port === undefined)
        context.remark(
          "error",
          "default-backend",
          `names Service ${found.name}, which has no port; it is ignored.`,
        );
      else backend = context.backendOf(context.namespace, named, String(port));
    }
    if (statuses.length === 0 && backend === undefined) return undefined;
    return {
      statuses: [...statuses].sort((a, b) => a - b),
      ...(backend === undefined ? {} : { backend }),
      takesOver: backend !== undefined,
      passesPodErrors: annotations["disable-proxy-intercept-errors"],
    };
  },
});
