/**
 * IP addresses and ranges: text in, canonical text out.
 *
 * Kubernetes accepts leading zeros (`10.180.00.001`, decimal) and keeps them in stored objects; a rule, a map key and a
 * comparison need one spelling. IPv6 is written as RFC 5952 says; an IPv4-mapped IPv6 address is IPv4, as in Go.
 */

import type { IpFamily } from "./model.ts";

export interface IpAddress {
  readonly family: IpFamily;
  /** Canonical. */
  readonly text: string;
}

/** The address that the text means, or undefined. No zone, no brackets, no blanks. */
export function parseIpAddress(text: string): IpAddress | undefined {
  if (isCanonicalIpv4(text)) return { family: "IPv4", text };
  const ipv4 = parseIpv4(text);
  if (ipv4 !== undefined) return { family: "IPv4", text: ipv4.join(".") };
  const groups = parseIpv6(text);
  if (groups === undefined) return undefined;
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    const [high = 0, low = 0] = groups.slice(6);
    return { family: "IPv4", text: [high >> 8, high & 255, low >> 8, low & 255].join(".") };
  }
  return { family: "IPv6", text: formatIpv6(groups) };
}

/** `10.0.0.1:80`, `[fd00::1]:80` (RFC 3986 §3.2.2). */
export function hostPort(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** A range such as `203.0.113.0/25`, canonical with the host bits as given, or undefined. */
export function parseIpRange(text: string): IpAddress | undefined {
  const slash = text.indexOf("/");
  if (slash < 0) return undefined;
  const address = parseIpAddress(text.slice(0, slash));
  const bits = text.slice(slash + 1);
  if (address === undefined || !/^[0-9]{1,4}$/.test(bits)) return undefined;
  const length = Number(bits);
  if (length > (address.family === "IPv4" ? 32 : 128)) return undefined;
  return { family: address.family, text: `${address.text}/${length}` };
}

/** Nearly every address that is read is one, and there are hundred thousands. */
function isCanonicalIpv4(text: string): boolean {
  if (text.length > 15) return false;
  let dots = 0;
  let byte: number | undefined;
  for (let at = 0; at < text.length; at++) {
    const digit = text.charCodeAt(at) - ZERO;
    if (digit === DOT && byte !== undefined) {
      dots++;
      byte = undefined;
    } else if (digit >= 0 && digit <= 9 && byte !== 0) {
      byte = (byte ?? 0) * 10 + digit;
      if (byte > 255) return false;
    } else return false;
  }
  return dots === 3 && byte !== undefined;
}

const ZERO = "0".charCodeAt(0);
const DOT = ".".charCodeAt(0) - ZERO;

function parseIpv4(text: string): readonly number[] | undefined {
  // The longest with leading zeros that anybody writes: three digits too many in each part would be nonsense.
  if (text.length > 39) return undefined;
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  const bytes: number[] = [];
  for (const part of parts) {
    if (!/^[0-9]+$/.test(part)) return undefined;
    const byte = Number(part);
    if (byte > 255) return undefined;
    bytes.push(byte);
  }
  return bytes;
}

function parseIpv6(text: string): readonly number[] | undefined {
  if (text.length > 64 || !text.includes(":")) return undefined;
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] ?? "", halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? "", true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  return [...head, ...new Array<number>(missing).fill(0), ...tail];
}

/** Groups of one side of `::`; only at the very end may IPv4 stand for the last two. */
function parseGroups(text: string, atEnd: boolean): number[] | undefined {
  if (text === "") return [];
  const parts = text.split(":");
  const groups: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (atEnd && index === parts.length - 1 && part.includes(".")) {
      const [a = 0, b = 0, c = 0, d = 0] = parseIpv4(part) ?? [-1];
      if (a < 0) return undefined;
      groups.push((a << 8) | b, (c << 8) | d);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups as `::`, the first of equals. */
function formatIpv6(groups: readonly number[]): string {
  let runStart = -1;
  let runLength = 1;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > runLength) {
      runStart = start;
      runLength = length;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  if (runStart < 0) return hex.join(":");
  return `${hex.slice(0, runStart).join(":")}::${hex.slice(runStart + runLength).join(":")}`;
}
