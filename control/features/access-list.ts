/** Who may come by address. Reference §1, `allowlist-source-range`, `denylist-source-range`. */

import { cidrs } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const accessList = defineFeature("accessList", {
  scope: "route",
  onInvalid: "deny",
  doc: "Answers 403 to clients by their address: the denylist is looked at first, then the allowlist, which refuses everybody who is not on it.",
  annotations: {
    "denylist-source-range": cidrs("Addresses and CIDRs that are refused.", {
      setting: "denylist-source-range",
    }),
    "allowlist-source-range": cidrs("Addresses and CIDRs that are let in, and nobody else.", {
      aliases: ["whitelist-source-range"],
      setting: "whitelist-source-range",
    }),
  },
  compile(annotations) {
    const deny = annotations["denylist-source-range"] ?? [];
    const allow = annotations["allowlist-source-range"] ?? [];
    return deny.length === 0 && allow.length === 0 ? undefined : { deny, allow };
  },
});
