/** Another `Host` for the pod. */

import type { FilterFor } from "./filter.ts";

export const upstreamVhost: FilterFor<"upstreamVhost"> = ({ host }) => ({
  onRequest({ upstream }) {
    upstream.host = host;
    return undefined;
  },
});
