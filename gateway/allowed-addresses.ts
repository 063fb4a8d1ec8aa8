/**
 * Which addresses a gateway dials. A token says where a request shall go; this says where it may go at all,
 * so that whoever got hold of a key still reaches pods only.
 *
 * In: CIDRs from the operator, IP addresses. Out: yes or no. Not here: names (`resolve.ts`).
 */

import { BlockList, isIP } from "node:net";

export interface AddressSettings {
  /** IPv4 and IPv6, as `10.244.0.0/16` or a bare address: the pods' and, for plain ClusterIPs, the services'. */
  readonly allowedCidrs: readonly string[];
  /** Only on a developer's machine: in a cluster, loopback is the gateway itself. */
  readonly allowLoopback?: boolean;
}

/** Never a pod, whatever the CIDRs say: this host, its links (cloud metadata lives there), groups, reserved. */
export const NEVER_DIALLED = [
  "0.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "::/128",
  "fe80::/10",
  "ff00::/8",
];
export const LOOPBACK = ["127.0.0.0/8", "::1/128"];

/** Whether an IP address may be dialled. */
export type AddressPolicy = (address: string) => boolean;

/** Throws a `RangeError` with a sentence when a CIDR is none. */
export function createAddressPolicy(settings: AddressSettings): AddressPolicy {
  const allowed = addressSet(settings.allowedCidrs);
  const never = addressSet(NEVER_DIALLED);
  const loopback = addressSet(LOOPBACK);
  return (address) => {
    const plain = withoutMapping(address);
    if (isIP(plain) === 0 || never(plain)) return false;
    return loopback(plain) ? settings.allowLoopback === true : allowed(plain);
  };
}

/** `::ffff:127.0.0.1` and `::ffff:7f00:1` are 127.0.0.1 to the kernel, so they are here. */
function withoutMapping(address: string): string {
  const dotted = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (dotted !== undefined) return dotted;
  // The URL parser knows every spelling of an IPv6 address and gives the shortest one.
  const canonical =
    isIP(address) === 6 ? URL.parse(`http://[${address}]/`)?.hostname.slice(1, -1) : undefined;
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical ?? "");
  if (mapped?.[1] === undefined || mapped[2] === undefined) return address;
  const high = Number.parseInt(mapped[1], 16);
  const low = Number.parseInt(mapped[2], 16);
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** One list for each family: to a list of both, `::/0` would mean every IPv4 address too. */
function addressSet(cidrs: readonly string[]): (address: string) => boolean {
  const lists = { 4: new BlockList(), 6: new BlockList() };
  for (const cidr of cidrs) {
    const [address = "", bits, ...rest] = cidr.split("/");
    const family = isIP(address);
    const most = family === 4 ? 32 : 128;
    const length = bits === undefined ? most : Number(bits);
    if (
      family === 0 ||
      rest.length > 0 ||
      bits === "" ||
      !Number.isInteger(length) ||
      length < 0 ||
      length > most
    ) {
      throw new RangeError(
        `${JSON.stringify(cidr)} is no CIDR; expected is one such as 10.244.0.0/16 or fd00::/64.`,
      );
    }
    if (family === 4) lists[4].addSubnet(address, length, "ipv4");
    else lists[6].addSubnet(address, length, "ipv6");
  }
  return (address) =>
    isIP(address) === 4 ? lists[4].check(address, "ipv4") : lists[6].check(address, "ipv6");
}
