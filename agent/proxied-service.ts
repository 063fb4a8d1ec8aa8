/** Which Services a node proxy serves at all; `wasm-nat` decides the same for its rules. */

import type { Service } from "../cluster/model.ts";

/** Present with any value: another proxy serves the Service (KEP-2447). */
export const SERVICE_PROXY_NAME = "service.kubernetes.io/service-proxy-name";
export const HEADLESS = "service.kubernetes.io/headless";

export function isProxied({ type, clusterIPs, meta: { labels } }: Service): boolean {
  return (
    type !== "ExternalName" &&
    clusterIPs.length > 0 &&
    clusterIPs[0] !== "None" &&
    labels[SERVICE_PROXY_NAME] === undefined &&
    labels[HEADLESS] === undefined
  );
}
