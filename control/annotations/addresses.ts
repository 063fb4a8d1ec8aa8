/**
 * Names and addresses as text: what is a DNS name, what is a CIDR, which address nobody may be sent to.
 *
 * Pure functions over text. Addresses are read by hand, not by `node:net`, so that what is accepted is
 * written here: no octal, no short forms.
 */

/** RFC 1123, lower case, at most 253 characters. */
export function isDnsName(text: string): boolean {
  return (
    text.length <= 253 &&
    /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$/.test(text)
  );
}

/** RFC 1035 label: what the API server takes for a Service. */
export function isServiceName(text: string): boolean {
  return text.length <= 63 && /^[a-z]([-a-z0-9]*[a-z0-9])?$/.test(text);
}

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

/**
 * Why the edge must not be sent to a host, outside development: the machine itself, its own link, or the
 * metadata service of a cloud. `undefined` for every other name or address.
 *
 * The text may be a name or an address, without port and brackets.
 */
export function forbiddenHost(host: string): string | undefined {
  const name = host.toLowerCase().replace(/\.$/, "");
  if (name === "localhost" || name.endsWith(".localhost")) return "loopback";
  if (name === "metadata.google.internal" || name === "metadata.goog") return "cloud metadata";
  const bytes = parseAddress(name);
  return bytes === undefined ? undefined : forbiddenBytes(bytes);
}

function forbiddenBytes(bytes: readonly number[]): string | undefined {
  const [a = 0, b = 0] = bytes;
  if (bytes.length === 4) {
    if (a === 127) return "loopback";
    if (a === 0) return "unspecified";
    if (a === 169 && b === 254) return "link-local";
    if (a >= 224) return "multicast";
    return undefined;
  }
  const head = bytes.slice(0, 12);
  if (head.every((byte) => byte === 0)) {
    // ::, ::1 and the IPv4-compatible addresses, which nothing legitimate uses any more (RFC 4291 §2.5.5.1).
    return bytes[15] === 1 && bytes[12] === 0
      ? "loopback"
      : (forbiddenBytes(bytes.slice(12)) ?? "unspecified");
  }
  if (head.slice(0, 10).every((byte) => byte === 0) && head[10] === 0xff)
    return forbiddenBytes(bytes.slice(12));
  if (a === 0xfe && (b & 0xc0) === 0x80) return "link-local";
  if (a === 0xff) return "multicast";
  if (formatAddress(bytes) === "fd00:ec2::254") return "cloud metadata";
  return undefined;
}
