/** Which Services a node proxy serves at all, and where; `wasm-nat` decides the same for its rules. */

import type { ExposedService } from "../cluster/exposed-services.ts";
import type { Service, ServicePort } from "../cluster/model.ts";

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

export type ServiceAddressKind = "ClusterIP" | "external IP" | "load balancer";

/** The addresses whose packets are translated, canonical. Those of a load balancer that sends to node ports itself are not. */
export function translatedAddresses({
  clusterIPs,
  externalIPs,
  loadBalancerIngress,
}: Service): readonly { readonly kind: ServiceAddressKind; readonly address: string }[] {
  return [
    ...clusterIPs.map((address) => ({ kind: "ClusterIP", address }) as const),
    ...externalIPs.map((address) => ({ kind: "external IP", address }) as const),
    ...loadBalancerIngress.flatMap(({ ip, ipMode }) =>
      ip === undefined || ipMode === "Proxy" ? [] : [{ kind: "load balancer", address: ip } as const],
    ),
  ];
}

/** Whether an exposed port of this Service is of this port of it. */
export function exposes(
  { protocol, port: wanted }: Pick<ExposedService, "protocol" | "port">,
  port: Pick<ServicePort, "protocol" | "port" | "name">,
): boolean {
  return protocol === port.protocol && (wanted === port.port || wanted === port.name);
}
