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
const NEVER = [
  "0.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "::/128",
  "fe80::/10",
  "ff00::/8",
];
const LOOPBACK = ["127.0.0.0/8", "::1/128"];

/** Throws a `RangeError` with a sentence when a CIDR is none. */
export function createAddressPolicy(settings: AddressSettings): (address: string) => boolean {
  const allowed = blockList(settings.allowedCidrs);
  const never = blockList(NEVER);
  const loopback = blockList(LOOPBACK);
  return (address) => {
    const plain = withoutMapping(address);
    const family = isIP(plain) === 4 ? "ipv4" : "ipv6";
    if (isIP(plain) === 0 || never.check(plain, family)) return false;
    if (loopback.check(plain, family)) return settings.allowLoopback === true;
    return allowed.check(plain, family);
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

function blockList(cidrs: readonly string[]): BlockList {
  const list = new BlockList();
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
    list.addSubnet(address, length, family === 4 ? "ipv4" : "ipv6");
  }
  return list;
}
