/** How the edge speaks with pods. */

import type { FilterFor } from "./filter.ts";

export const backendProtocol: FilterFor<"backendProtocol"> = ({ protocol }) => ({
  onRequest({ upstream, target }) {
    switch (protocol) {
      case "https":
        upstream.scheme = "https";
        return undefined;
      case "grpcs":
        upstream.scheme = "https";
        upstream.http2 = true;
        return undefined;
      case "grpc":
        upstream.http2 = true;
        return undefined;
      case "auto":
        upstream.scheme = target.scheme;
        return undefined;
      default:
        return protocol satisfies never;
    }
  },
});
