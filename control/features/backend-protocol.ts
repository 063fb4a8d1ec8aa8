/** How the edge speaks with pods. Reference §1, `backend-protocol`; §5, `secure-backends`. */

import { choice } from "../annotations/readers.ts";
import { defineFeature, deny } from "./feature.ts";

export const backendProtocol = defineFeature("backendProtocol", {
  scope: "route",
  onInvalid: "ignore",
  doc: "How the edge speaks with pods. HTTPS does not verify their certificates unless `proxy-ssl-verify` is on.",
  annotations: {
    "backend-protocol": choice(
      "The protocol of the pods.",
      ["HTTP", "HTTPS", "AUTO_HTTP", "GRPC", "GRPCS", "FCGI"],
      {
        ignoreCase: true,
        default: "HTTP",
        setting: "backend-protocol",
        aliases: [
          {
            name: "secure-backends",
            translate: (text) => (/^(?:1|t|T|TRUE|true|True)$/.test(text) ? "HTTPS" : undefined),
          },
        ],
        difference:
          "FCGI denies the route: an edge speaks HTTP. What gRPC can do through a Worker is in docs/grpc.md.",
      },
    ),
  },
  compile({ "backend-protocol": protocol }) {
    switch (protocol) {
      case "HTTP":
        return undefined;
      case "HTTPS":
        return { protocol: "https" };
      case "AUTO_HTTP":
        return { protocol: "auto" };
      case "GRPC":
        return { protocol: "grpc" };
      case "GRPCS":
        return { protocol: "grpcs" };
      case "FCGI":
        return deny("backend-protocol FCGI is not offered: put a web server in front of the FastCGI program");
      default:
        return protocol satisfies never;
    }
  },
});
