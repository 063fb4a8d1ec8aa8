/** Through the gateway inside the cluster. (Waits for `edge-config/gateway-token.ts`.) */

import { SettingError } from "../environment.ts";
import type { Transport } from "./transport.ts";

export function gatewayTransport(_fetcher: Pick<Fetcher, "fetch">, _url: string, _keys: string): Transport {
  throw new SettingError('ORIGIN_TRANSPORT "gateway" is not built yet; use "direct".');
}
