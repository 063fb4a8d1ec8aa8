/**
 * Names and addresses as text: what is a DNS name, what is a CIDR, which address nobody may be sent to.
 *
 * Pure functions over text; how an address is read stands in `edge-config/address.ts`.
 */

import { formatAddress, parseAddress } from "../../edge-config/address.ts";

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
