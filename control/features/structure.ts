/**
 * Annotations that shape hosts, routes and backends instead of making a policy. `compile/` reads them.
 */

import { isDnsName } from "../annotations/addresses.ts";
import { type Reader, unreadable, value } from "../annotations/reader.ts";
import { flag, quote } from "../annotations/readers.ts";
import { defineStructure } from "./feature.ts";

export const canaryIngress = defineStructure("canary-ingress", {
  // A canary whose mark cannot be read would otherwise take the place of its main Ingress.
  onInvalid: "deny",
  whenUnreadable: "the whole Ingress is left out",
  doc: "Marks an Ingress as the alternative of the Ingress with the same host, path and pathType.",
  annotations: {
    canary: flag("Makes this Ingress an alternative, not a route of its own.", { default: false }),
  },
});

export const serverAlias = defineStructure("server-alias", {
  onInvalid: "ignore",
  doc: "More names for the hosts of the Ingress. A host of some Ingress' own rule wins over an alias.",
  annotations: {
    "server-alias": aliases("Hosts that answer like this Ingress' own, for all of their paths."),
  },
});

export const serviceUpstream = defineStructure("service-upstream", {
  onInvalid: "ignore",
  doc: "Sends requests to the Service's ClusterIP and port, so the node's rules choose the pod.",
  annotations: {
    "service-upstream": flag(
      "Uses the ClusterIP as the only endpoint; a headless Service keeps its endpoints.",
      {
        default: false,
        setting: "service-upstream",
      },
    ),
  },
});

export const sslPassthrough = defineStructure("ssl-passthrough", {
  onInvalid: "ignore",
  doc: "Leaves TLS of a host to its pods: connections go by the name that the client asks for (SNI) to the backend of the host's path `/`, byte by byte.",
  annotations: {
    "ssl-passthrough": flag("TLS of this host ends at its pods; no other annotation applies to it.", {
      default: false,
      difference:
        "It is the gateway that passes TLS on, at a port of its own (`fairlead gateway follow --passthrough-listen`), and `fairlead dev --protocol https`. " +
        "Cloudflare's proxy ends TLS, so the host's DNS record must lead to the gateway; requests that reach the edge all the same are routed like those of any host. " +
        "Connections go straight to ready endpoints, not to the ClusterIP.",
    }),
  },
});

export const useRegex = defineStructure("use-regex", {
  onInvalid: "ignore",
  doc: "Turns every path of the host, those of other Ingresses too, into a start-anchored, case-insensitive regular expression.",
  annotations: {
    "use-regex": flag("Paths of this host are regular expressions.", { default: false }),
  },
});

/** Wrong names are left out; the others stay. */
function aliases(doc: string): Reader<readonly string[]> {
  return {
    type: "comma-separated host names",
    doc,
    maxLength: 65_536,
    options: { difference: "Names, and `*.name` for one label; regular expressions (`~^…`) are refused." },
    read(text) {
      const items = text.split(",").flatMap((item) => item.trim().toLowerCase() || []);
      const right = items.filter(isHost);
      if (right.length === 0) return unreadable("a comma-separated list of host names");
      const wrong = items.filter((item) => !isHost(item));
      return value(
        [...new Set(right)],
        wrong.map((item) => `contains ${quote(item)}, which is not the name of a host; it is left out.`),
      );
    },
  };
}

function isHost(text: string): boolean {
  return isDnsName(text.replace(/^\*\./, ""));
}

/** In the order of the alphabet. */
export const structures = [canaryIngress, serverAlias, serviceUpstream, sslPassthrough, useRegex] as const;
