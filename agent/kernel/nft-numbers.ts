/**
 * The numbers that the nftables layout gives to Service ports, as `nft` prints and reads them.
 *
 * The parts are those of `wasm-nat/src/nftables/numbers.rs`.
 */

/** Whose Service port a number is. */
export const SERVICE_MASK = 0xffff_e000;
/** The local set instead of the cluster set. */
export const LOCAL_SET = 0x1;
/** From outside under policy Local. */
export const FROM_OUTSIDE_LOCAL = 0x4;
/** Through a node port. */
export const NODE_PORT = 0x10;
/** What connections are counted by. */
export const COUNTED_MASK = 0xffff_e010;

/** `8000:4002`, as nft prints a classid; halves lose their leading zeros. */
export function parseNumber(text: string): number {
  const [major = "", minor = ""] = text.trim().split(":");
  return ((Number.parseInt(major || "0", 16) << 16) | Number.parseInt(minor || "0", 16)) >>> 0;
}

/** The bits of `mask`. */
export function masked(number: number, mask: number): number {
  return (number & mask) >>> 0;
}

/** `0x80004002`. */
export function printNumber(number: number): string {
  return `0x${(number >>> 0).toString(16)}`;
}
