/** How much one client may ask. Reference §1, Access control and rate limiting. */

import { cidrs, integer } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

const STATUS = { min: 400, max: 599 } as const;

export const rateLimit = defineFeature("rateLimit", {
  scope: "route",
  onInvalid: "ignore",
  doc: "Counts each client of an Ingress by nginx's leaky bucket: from idle, one request and the burst pass at once, then so many a second; what is too much is refused. Also limits requests in flight.",
  annotations: {
    "limit-rps": integer("Requests a second; 0 is off.", { default: 0, max: 1_000_000 }),
    "limit-rpm": integer("Requests a minute; 0 is off. Checked after `limit-rps`; both must pass.", {
      default: 0,
      max: 1_000_000,
    }),
    "limit-burst-multiplier": integer("The burst is so many times the limit.", {
      default: 5,
      min: 1,
      max: 1_000,
    }),
    "limit-connections": integer("Requests in flight at once; 0 is off.", { default: 0, max: 1_000_000 }),
    "limit-allowlist": cidrs("Clients that are never counted.", { aliases: ["limit-whitelist"] }),
  },
  settings: {
    "limit-req-status-code": integer("Status of a refusal by rate.", { default: 503, ...STATUS }),
    "limit-conn-status-code": integer("Status of a refusal by requests in flight.", {
      default: 503,
      ...STATUS,
    }),
  },
  compile(annotations, { ingress }, settings) {
    const perSecond = annotations["limit-rps"];
    const perMinute = annotations["limit-rpm"];
    const connections = annotations["limit-connections"];
    if (perSecond === 0 && perMinute === 0 && connections === 0) return undefined;
    return {
      key: ingress ?? "",
      ...(perSecond > 0 ? { requestsPerSecond: perSecond } : {}),
      ...(perMinute > 0 ? { requestsPerMinute: perMinute } : {}),
      burstMultiplier: annotations["limit-burst-multiplier"],
      ...(connections > 0 ? { connections } : {}),
      exempt: annotations["limit-allowlist"] ?? [],
      requestStatus: settings["limit-req-status-code"],
      connectionStatus: settings["limit-conn-status-code"],
    };
  },
});
