/** TLS towards pods: said in the token, done by the gateway. */

import type { FilterFor } from "./filter.ts";

export const upstreamTls: FilterFor<"upstreamTls"> = ({ secret, verifies, name, sendsName }) => ({
  onRequest({ upstream, target }) {
    const sni = name ?? (sendsName ? target.host : undefined);
    upstream.tls = { secret, verifies, ...(sni === undefined ? {} : { name: sni }) };
    return undefined;
  },
});
