/** Who is refused everywhere. Keys of the controller's ConfigMap, with the syntax of nginx's `map`. */

import type { BlockedText } from "../../edge-config/features/blocklist.ts";
import { compilePattern } from "../../edge-config/pattern/loaded.ts";
import { type Reader, unreadable, value } from "../annotations/reader.ts";
import { cidrs, quote } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const blocklist = defineFeature("blocklist", {
  scope: "route",
  onInvalid: "deny",
  doc: "Answers 403 to addresses, user agents and referers that the operator blocks, on every route and before anything else.",
  annotations: {},
  settings: {
    "block-cidrs": cidrs("Addresses and CIDRs that are refused, beside every route's own denylist."),
    "block-user-agents": texts("User agents that are refused."),
    "block-referers": texts("Referers that are refused."),
  },
  compile(_annotations, _context, settings) {
    const policy = {
      cidrs: settings["block-cidrs"] ?? [],
      userAgents: settings["block-user-agents"] ?? [],
      referers: settings["block-referers"] ?? [],
    };
    return Object.values(policy).every((list) => list.length === 0) ? undefined : policy;
  },
});

/** Whole texts, `~pattern` and `~*pattern` (without case), comma-separated. */
function texts(doc: string): Reader<readonly BlockedText[]> {
  return {
    type: "comma-separated texts and ~patterns",
    doc: `${doc.slice(0, -1)}: whole texts without regard to case, \`~pattern\` or \`~*pattern\`.`,
    maxLength: 65_536,
    options: {},
    read(given) {
      const found: BlockedText[] = [];
      for (const item of given.split(",").flatMap((one) => one.trim() || [])) {
        const [, tilde, pattern] = /^(~\*?)(.*)$/s.exec(item) ?? [];
        if (tilde === undefined || pattern === undefined) {
          found.push({ kind: "Text", text: item.toLowerCase() });
          continue;
        }
        const ignoreCase = tilde === "~*";
        const compiled = compilePattern(pattern, { ignoreCase });
        if (compiled.kind === "refused")
          return unreadable(`patterns for a linear-time engine (${quote(item)} ${compiled.reason})`);
        found.push({ kind: "Pattern", pattern, ignoreCase });
      }
      return value(found);
    },
  };
}
