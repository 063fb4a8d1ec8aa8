/** Which Service port a destination belongs to, as the objects of the cluster say. */

import type { ExposedService } from "../../cluster/exposed-services.ts";
import { parseIpAddress } from "../../cluster/ip-address.ts";
import type { ClusterModel, ObjectName, Protocol, Service, ServicePort } from "../../cluster/model.ts";
import { isProxied } from "../proxied-service.ts";

export interface Destination {
  readonly address: string;
  readonly port: number;
  readonly protocol: Protocol;
}

export type DestinationKind = "ClusterIP" | "external IP" | "load balancer" | "node port" | "exposed port";

export interface Claim {
  readonly name: ObjectName;
  readonly service: Service;
  readonly port: ServicePort;
  readonly kind: DestinationKind;
}

/** Every Service port that claims the destination; the oldest first, who is the one that has it. */
export function claimsOf(
  { address, port, protocol }: Destination,
  model: ClusterModel,
  exposed: readonly ExposedService[],
  isNodeAddress: (address: string) => boolean,
): readonly Claim[] {
  const isNode = isNodeAddress(address);
  const claims: Claim[] = [];
  for (const [name, service] of model.services) {
    if (!isProxied(service)) continue;
    for (const servicePort of service.ports) {
      if (servicePort.protocol !== protocol) continue;
      const kind = kindOf(servicePort);
      if (kind !== undefined) claims.push({ name, service, port: servicePort, kind });
    }

    function kindOf(own: ServicePort): DestinationKind | undefined {
      if (own.port === port) {
        if (has(service.clusterIPs, address)) return "ClusterIP";
        if (has(service.externalIPs, address)) return "external IP";
        const vips = service.loadBalancerIngress.flatMap(({ ip, ipMode }) =>
          ip === undefined || ipMode === "Proxy" ? [] : [ip],
        );
        if (has(vips, address)) return "load balancer";
      }
      if (!isNode) return undefined;
      if (own.nodePort === port) return "node port";
      const isExposed = exposed.some(
        (one) =>
          one.service === name &&
          one.protocol === protocol &&
          one.nodePort === port &&
          (one.port === own.port || one.port === own.name),
      );
      return isExposed ? "exposed port" : undefined;
    }
  }
  return claims.sort((a, b) => compare(age(a), age(b)) || compare(a.name, b.name));
}

/** Without a time it counts as younger than any that has one. */
function age({ service }: Claim): string {
  return service.meta.creationTimestamp ?? "~";
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function has(addresses: readonly string[], address: string): boolean {
  return addresses.some((text) => parseIpAddress(text)?.text === address);
}
