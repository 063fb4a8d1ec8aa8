/**
 * IP addresses and CIDRs as text: what control accepts in an annotation and what the Worker compares a client with.
 *
 * Read by hand, so that what is accepted is written here: no octal, no short forms. Pure.
 */

/** An address as its bytes: 4 or 16. */
export function parseAddress(text: string): readonly number[] | undefined {
  return text.includes(":") ? parseIPv6(text) : parseIPv4(text);
}

function parseIPv4(text: string): readonly number[] | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part))) return undefined;
  const bytes = parts.map(Number);
  return bytes.every((byte) => byte <= 255) ? bytes : undefined;
}

function parseIPv6(text: string): readonly number[] | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const groups: (readonly number[] | undefined)[] = halves.map((half, index) =>
    parseGroups(half, index === halves.length - 1),
  );
  const [head, tail] = groups;
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  if (tail === undefined) return head.length === 16 ? head : undefined;
  const zeros = 16 - head.length - tail.length;
  return zeros < 2 ? undefined : [...head, ...new Array<number>(zeros).fill(0), ...tail];
}

/** `a:b:1.2.3.4` → bytes; the dotted form may only stand at the very end of an address. */
function parseGroups(text: string, atEnd: boolean): readonly number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    if (atEnd && index === groups.length - 1 && group.includes(".")) {
      const last = parseIPv4(group);
      if (last === undefined) return undefined;
      bytes.push(...last);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
      const word = Number.parseInt(group, 16);
      bytes.push(word >> 8, word & 0xff);
    }
  }
  return bytes;
}

/** RFC 5952 for IPv6, dotted for IPv4. */
export function formatAddress(bytes: readonly number[]): string {
  if (bytes.length === 4) return bytes.join(".");
  const words: number[] = [];
  for (let index = 0; index < 16; index += 2)
    words.push(((bytes[index] ?? 0) << 8) | (bytes[index + 1] ?? 0));
  let best = { start: 0, length: 0 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && words[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const hex = words.map((word) => word.toString(16));
  if (best.length < 2) return hex.join(":");
  return `${hex.slice(0, best.start).join(":")}::${hex.slice(best.start + best.length).join(":")}`;
}

/** The canonical CIDR of an address or a CIDR: bits beyond the prefix are cleared, a lone address gets /32 or /128. */
export function parseCidr(text: string): string | undefined {
  const [addressText = "", lengthText, ...rest] = text.split("/");
  const bytes = parseAddress(addressText);
  if (bytes === undefined || rest.length > 0) return undefined;
  const bits = bytes.length * 8;
  if (lengthText !== undefined && !/^(0|[1-9][0-9]{0,2})$/.test(lengthText)) return undefined;
  const length = lengthText === undefined ? bits : Number(lengthText);
  if (length > bits) return undefined;
  const masked = bytes.map(
    (byte, index) => byte & (0xff << (8 - Math.min(8, Math.max(0, length - index * 8)))) & 0xff,
  );
  return `${formatAddress(masked)}/${length}`;
}
