/** Which Service port a destination belongs to, as the objects of the cluster say. */

import type { ExposedService } from "../cluster/exposed-services.ts";
import type { ClusterModel, ObjectName, Protocol, Service, ServicePort } from "../cluster/model.ts";
import { exposes, isProxied, type ServiceAddressKind, translatedAddresses } from "./proxied-service.ts";

export interface Destination {
  readonly address: string;
  readonly port: number;
  readonly protocol: Protocol;
}

export type DestinationKind = ServiceAddressKind | "node port" | "exposed port";

export interface Claim {
  readonly name: ObjectName;
  readonly service: Service;
  readonly port: ServicePort;
  readonly kind: DestinationKind;
}

interface ClaimedDestination extends Claim {
  /** `undefined`: every address of the node that has node ports. */
  readonly address: string | undefined;
  readonly number: number;
}

/** Every Service port that claims the destination; the oldest first, who is the one that has it. */
export function claimsOf(
  { address, port, protocol }: Destination,
  model: Pick<ClusterModel, "services">,
  exposed: readonly ExposedService[],
  isNodeAddress: (address: string) => boolean,
): readonly Claim[] {
  const isNode = isNodeAddress(address);
  const claims = new Map<ServicePort, Claim>();
  for (const claimed of claimedDestinations(model, exposed)) {
    if (claimed.port.protocol !== protocol || claimed.number !== port) continue;
    if (claimed.address === undefined ? !isNode : claimed.address !== address) continue;
    const { name, service, kind } = claimed;
    if (!claims.has(claimed.port)) claims.set(claimed.port, { name, service, port: claimed.port, kind });
  }
  return [...claims.values()].sort(olderFirst);
}

/** Who has each destination. `address` is `undefined` for ports of the node. */
export class DestinationOwners {
  readonly #owners = new Map<string, Claim>();

  constructor(model: Pick<ClusterModel, "services">, exposed: readonly ExposedService[]) {
    for (const { address, number, ...claim } of claimedDestinations(model, exposed)) {
      const key = keyOf(claim.port.protocol, address, number);
      const other = this.#owners.get(key);
      if (other === undefined || olderFirst(claim, other) < 0) this.#owners.set(key, claim);
    }
  }

  /** A port of the node counts where nobody claims the very address. */
  of({ protocol, address, port }: Destination): Claim | undefined {
    return (
      this.#owners.get(keyOf(protocol, address, port)) ?? this.#owners.get(keyOf(protocol, undefined, port))
    );
  }
}

function keyOf(protocol: Protocol, address: string | undefined, port: number): string {
  return `${protocol} ${address ?? ""} ${port}`;
}

function* claimedDestinations(
  { services }: Pick<ClusterModel, "services">,
  exposed: readonly ExposedService[],
): Iterable<ClaimedDestination> {
  for (const [name, service] of services) {
    if (!isProxied(service)) continue;
    const addresses = translatedAddresses(service);
    for (const port of service.ports) {
      const claim = { name, service, port };
      for (const { kind, address } of addresses) yield { ...claim, kind, address, number: port.port };
      const onNode = { ...claim, address: undefined };
      if (port.nodePort !== undefined) yield { ...onNode, kind: "node port", number: port.nodePort };
      for (const one of exposed)
        if (one.service === name && exposes(one, port))
          yield { ...onNode, kind: "exposed port", number: one.nodePort };
    }
  }
}

function olderFirst(one: Claim, other: Claim): number {
  return compare(age(one), age(other)) || compare(one.name, other.name);
}

/** Without a time it counts as younger than any that has one. */
function age({ service }: Claim): string {
  return service.meta.creationTimestamp ?? "~";
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
