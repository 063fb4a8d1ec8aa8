/** The transport that the operator chose. With a VPC binding, everything goes through its tunnel. */

import type { TransportSettings } from "../environment.ts";
import { directTransport } from "./direct.ts";
import { gatewayTransport } from "./gateway.ts";
import type { Transport } from "./transport.ts";

export function createTransport(settings: TransportSettings, vpc: Fetcher | undefined): Transport {
  const fetcher: Pick<Fetcher, "fetch"> = vpc ?? globalThis;
  switch (settings.kind) {
    case "direct":
      return directTransport(fetcher);
    case "gateway":
      return gatewayTransport(fetcher, settings.url, settings.keys);
    default:
      return settings satisfies never;
  }
}
