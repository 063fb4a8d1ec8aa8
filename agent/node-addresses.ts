/**
 * The addresses of this node: what "from the node" and "to a node port" mean.
 *
 * In: the Node object, if there is one, and the interfaces of the network namespace. Out: addresses by family. The
 * object wins where it names any of a family, because its first address is the one that the cluster calls primary; the
 * interfaces stand in for a Node that is not known (files without one, a node before its first registration).
 */

import { networkInterfaces } from "node:os";
import { parseIpAddress } from "../cluster/ip-address.ts";
import type { IpFamily, Node } from "../cluster/model.ts";
import { DUMMY_LINK } from "./kernel/ipvs.ts";
import type { NatSettings } from "./settings.ts";

export interface NodeAddresses {
  /** Canonical; the primary one first. */
  readonly IPv4: readonly string[];
  readonly IPv6: readonly string[];
}

export function nodeAddresses(
  node: Node | undefined,
  interfaces: () => readonly string[] = interfaceAddresses,
): NodeAddresses {
  const named = (node?.addresses ?? [])
    .filter(({ type }) => type === "InternalIP" || type === "ExternalIP")
    // Kubernetes' order of preference; the sort is stable, so the object's order stays otherwise.
    .sort((a, b) => Number(a.type !== "InternalIP") - Number(b.type !== "InternalIP"))
    .map(({ address }) => address);
  const own = (family: IpFamily): readonly string[] => {
    const fromNode = ofFamily(named, family);
    return fromNode.length > 0 ? fromNode : ofFamily(interfaces(), family);
  };
  return { IPv4: own("IPv4"), IPv6: own("IPv6") };
}

/** Of every interface but loopback and IPVS' own, without link-local addresses: as they come, so the first is the oldest interface's. */
export function interfaceAddresses(): readonly string[] {
  return Object.entries(networkInterfaces())
    .flatMap(([name, addresses]) => (name === DUMMY_LINK ? [] : (addresses ?? [])))
    .filter(({ internal, address }) => !internal && !isLinkLocal(address))
    .map(({ address }) => address);
}

/** Whether loopback is asked for as such, and not just with every other address. */
export function namesLoopback(which: NatSettings["nodePortAddresses"]): boolean {
  return which.some((one) => typeof one === "object" && one.cidr.startsWith("127."));
}

/** With loopback: every address at which a packet has arrived when it arrives here. */
export function localAddresses(): ReadonlySet<string> {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return new Set(addresses.map(({ address }) => address));
}

function ofFamily(texts: readonly string[], family: IpFamily): readonly string[] {
  const addresses = texts.flatMap((text) => {
    const address = parseIpAddress(text);
    return address?.family === family ? [address.text] : [];
  });
  return [...new Set(addresses)];
}

export function isLoopback(address: string): boolean {
  return address === "::1" || address.startsWith("127.");
}

function isLinkLocal(address: string): boolean {
  return /^(?:169\.254\.|fe[89ab][0-9a-f]:)/i.test(address);
}
