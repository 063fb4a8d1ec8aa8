/**
 * Sets of addresses, for every question of the form "is this client one of those".
 *
 * A look-up costs one masking for each prefix length that occurs, however many CIDRs there are.
 */

import { parseAddress } from "../edge-config/address.ts";

export interface AddressSet {
  /** False for text that is no address: nobody is let in for having none. */
  readonly has: (address: string) => boolean;
}

/** `cidrs` as control writes them: canonical, each with its length. */
export function addressSet(cidrs: readonly string[]): AddressSet {
  const byLength = new Map<
    string,
    { readonly length: number; readonly size: number; readonly prefixes: Set<string> }
  >();
  for (const cidr of cidrs) {
    const slash = cidr.lastIndexOf("/");
    const bytes = parseAddress(cidr.slice(0, slash));
    const length = Number(cidr.slice(slash + 1));
    if (bytes === undefined || !Number.isInteger(length)) continue;
    const key = `${bytes.length}/${length}`;
    const group = byLength.get(key) ?? { length, size: bytes.length, prefixes: new Set() };
    group.prefixes.add(prefixOf(bytes, length));
    byLength.set(key, group);
  }
  const groups = [...byLength.values()];
  return {
    has(address) {
      const bytes = clientBytes(address);
      return (
        bytes !== undefined &&
        groups.some(
          ({ length, size, prefixes }) => bytes.length === size && prefixes.has(prefixOf(bytes, length)),
        )
      );
    },
  };
}

/** An IPv4 client that came over an IPv6 socket (`::ffff:203.0.113.7`, RFC 4291 §2.5.5.2) is an IPv4 client. */
export function clientBytes(address: string): readonly number[] | undefined {
  const bytes = parseAddress(address);
  if (bytes?.length !== 16) return bytes;
  const isMapped = bytes[10] === 0xff && bytes[11] === 0xff && bytes.slice(0, 10).every((byte) => byte === 0);
  return isMapped ? bytes.slice(12) : bytes;
}

/** The first `length` bits as text: a key of a Set. */
export function prefixOf(bytes: readonly number[], length: number): string {
  const whole = length >> 3;
  const rest = length & 7;
  let key = "";
  for (let index = 0; index < whole; index++) key += String.fromCharCode(bytes[index] ?? 0);
  if (rest > 0) key += String.fromCharCode((bytes[whole] ?? 0) & (0xff << (8 - rest)) & 0xff);
  return key;
}
