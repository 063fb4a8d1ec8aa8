/**
 * The PROXY protocol: one header in front of a TCP connection that says between whom it really is.
 *
 * In: the first bytes of a connection. Out: its two ends; and back. Versions 1 (text) and 2 (binary).
 * Source: "The PROXY protocol, versions 1 & 2" by HAProxy Technologies (doc/proxy-protocol.txt).
 * Not here: who may send such a header. Whoever listens for one believes it, so only a balancer may reach the port.
 */

import { isIP } from "node:net";

export type ProxyVersion = "v1" | "v2";

/** One end of a connection; the address without brackets. */
export interface ConnectionEnd {
  readonly address: string;
  readonly port: number;
}

export interface ConnectionEnds {
  readonly source: ConnectionEnd;
  readonly destination: ConnectionEnd;
}

export type ProxyHeader =
  /** More bytes are needed. */
  | { readonly kind: "incomplete" }
  | { readonly kind: "malformed"; readonly reason: string }
  | {
      readonly kind: "header";
      /** Bytes that it takes; what follows belongs to the connection. */
      readonly length: number;
      /** Absent: the sender speaks for itself (LOCAL, UNKNOWN) or of a family that has no addresses here. */
      readonly ends?: ConnectionEnds;
    };

const SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
const V1_START = Buffer.from("PROXY ", "latin1");
/** With CR LF (specification §2.1). */
const V1_MAX_BYTES = 107;
/** Addresses take 36 bytes at most without Unix sockets (216); the rest are TLVs that nobody here reads. */
const V2_MAX_BYTES = 4096;

/** Reads the header at the beginning of a connection. Pure; ask again with more bytes where it is incomplete. */
export function readProxyHeader(bytes: Buffer): ProxyHeader {
  const isV2 = startsLike(bytes, SIGNATURE);
  if (isV2 && bytes.length >= SIGNATURE.length) return readV2(bytes);
  const isV1 = startsLike(bytes, V1_START);
  if (isV1 && bytes.length >= V1_START.length) return readV1(bytes);
  return isV1 || isV2 ? { kind: "incomplete" } : malformed("it begins with something else");
}

/** True where one is the beginning of the other. */
function startsLike(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.subarray(0, length).equals(start.subarray(0, length));
}

function malformed(reason: string): ProxyHeader {
  return { kind: "malformed", reason };
}

function readV1(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, V1_MAX_BYTES).indexOf("\r\n");
  if (end === -1)
    return bytes.length < V1_MAX_BYTES ? { kind: "incomplete" } : malformed("its line does not end");
  const length = end + 2;
  const [, protocol, source = "", destination = "", sourcePort = "", destinationPort = "", ...rest] = bytes
    .toString("latin1", 0, end)
    .split(" ");
  if (protocol === "UNKNOWN") return { kind: "header", length };
  const family = protocol === "TCP4" ? 4 : protocol === "TCP6" ? 6 : undefined;
  if (family === undefined) return malformed("its protocol is none of TCP4, TCP6 and UNKNOWN");
  if (rest.length > 0 || isIP(source) !== family || isIP(destination) !== family)
    return malformed("its addresses are not of its protocol");
  const ports = [sourcePort, destinationPort].map((text) =>
    /^(0|[1-9][0-9]{0,4})$/.test(text) ? Number(text) : Number.NaN,
  );
  const [from = Number.NaN, to = Number.NaN] = ports;
  if (!(from <= 65_535 && to <= 65_535)) return malformed("its ports are none");
  return {
    kind: "header",
    length,
    ends: {
      source: { address: source, port: from },
      destination: { address: destination, port: to },
    },
  };
}

const COMMAND_LOCAL = 0x0;
const COMMAND_PROXY = 0x1;
const STREAM_IPV4 = 0x11;
const STREAM_IPV6 = 0x21;

function readV2(bytes: Buffer): ProxyHeader {
  const at = SIGNATURE.length;
  if (bytes.length < at + 4) return { kind: "incomplete" };
  const versionAndCommand = bytes.readUInt8(at);
  if (versionAndCommand >> 4 !== 2) return malformed("its version is not 2");
  const command = versionAndCommand & 0xf;
  if (command !== COMMAND_LOCAL && command !== COMMAND_PROXY)
    return malformed("its command is neither LOCAL nor PROXY");
  const body = bytes.readUInt16BE(at + 2);
  const length = at + 4 + body;
  if (length > V2_MAX_BYTES) return malformed("it is too long");
  if (bytes.length < length) return { kind: "incomplete" };
  if (command === COMMAND_LOCAL) return { kind: "header", length };
  const kind = bytes.readUInt8(at + 1);
  const width = kind === STREAM_IPV4 ? 4 : kind === STREAM_IPV6 ? 16 : undefined;
  // Datagrams, Unix sockets, unspecified: the connection counts as what it is (specification §2.2).
  if (width === undefined) return { kind: "header", length };
  if (body < 2 * width + 4) return malformed("it is shorter than its addresses");
  const addresses = at + 4;
  const address = (offset: number): string => addressText(bytes.subarray(offset, offset + width));
  return {
    kind: "header",
    length,
    ends: {
      source: { address: address(addresses), port: bytes.readUInt16BE(addresses + 2 * width) },
      destination: {
        address: address(addresses + width),
        port: bytes.readUInt16BE(addresses + 2 * width + 2),
      },
    },
  };
}

/** A header for these ends. Ends of two families are both written as IPv6. */
export function writeProxyHeader(version: ProxyVersion, { source, destination }: ConnectionEnds): Buffer {
  const isIpv4 = isIP(source.address) === 4 && isIP(destination.address) === 4;
  const [from, to] = [source.address, destination.address].map((address) =>
    isIpv4 ? addressBytes4(address) : addressBytes6(address),
  );
  if (from === undefined || to === undefined)
    throw new RangeError("An end of the connection has no IP address.");
  if (version === "v1") {
    const words = [
      isIpv4 ? "TCP4" : "TCP6",
      addressText(from),
      addressText(to),
      source.port,
      destination.port,
    ];
    return Buffer.from(`PROXY ${words.join(" ")}\r\n`, "latin1");
  }
  const head = Buffer.from([
    (2 << 4) | COMMAND_PROXY,
    isIpv4 ? STREAM_IPV4 : STREAM_IPV6,
    0,
    isIpv4 ? 12 : 36,
  ]);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(source.port, 0);
  ports.writeUInt16BE(destination.port, 2);
  return Buffer.concat([SIGNATURE, head, from, to, ports]);
}

function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, group) => bytes.readUInt16BE(group * 2).toString(16));
  // The URL parser gives the shortest spelling (RFC 5952).
  return new URL(`http://[${groups.join(":")}]/`).hostname.slice(1, -1);
}

function addressBytes4(address: string): Buffer {
  return Buffer.from(address.split(".").map(Number));
}

function addressBytes6(address: string): Buffer | undefined {
  if (isIP(address) === 4) return Buffer.concat([MAPPED_PREFIX, addressBytes4(address)]);
  const plain = URL.parse(`http://[${address.replace(/%.*$/, "")}]/`)?.hostname.slice(1, -1);
  if (plain === undefined) return undefined;
  const [left = "", right] = plain.split("::");
  const groupsOf = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const head = groupsOf(left);
  const tail = right === undefined ? [] : groupsOf(right);
  const groups = [...head, ...new Array<string>(8 - head.length - tail.length).fill("0"), ...tail];
  const bytes = Buffer.alloc(16);
  for (const [index, group] of groups.entries()) bytes.writeUInt16BE(Number.parseInt(group, 16), index * 2);
  return bytes;
}

const MAPPED_PREFIX = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
