import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ConnectionEnds, readProxyHeader, writeProxyHeader } from "./proxy-protocol.ts";

const port = fc.integer({ min: 0, max: 65_535 });
const end4 = fc.record({ address: fc.ipV4(), port });
/** As Node spells addresses. */
const end6 = fc.record({
  address: fc.ipV6().map((address) => new URL(`http://[${address}]/`).hostname.slice(1, -1)),
  port,
});
const ends = fc.oneof(
  fc.record({ source: end4, destination: end4 }),
  fc.record({ source: end6, destination: end6 }),
);
const version = fc.constantFrom("v1" as const, "v2" as const);

describe("both versions", () => {
  test("what was written is read again, whatever follows", () => {
    fc.assert(
      fc.property(version, ends, fc.uint8Array(), (which, given, rest) => {
        const header = writeProxyHeader(which, given);
        const bytes = Buffer.concat([header, rest]);
        expect(readProxyHeader(bytes)).toEqual({ kind: "header", length: header.length, ends: given });
      }),
    );
  });

  test("every beginning of a header is incomplete", () => {
    fc.assert(
      fc.property(version, ends, (which, given) => {
        const header = writeProxyHeader(which, given);
        for (let length = 0; length < header.length; length++)
          expect(readProxyHeader(header.subarray(0, length))).toEqual({ kind: "incomplete" });
      }),
    );
  });

  test("no bytes make it throw", () => {
    fc.assert(
      fc.property(version, ends, fc.uint8Array({ maxLength: 40 }), fc.nat(40), (which, given, noise, at) => {
        const bytes = Buffer.concat([writeProxyHeader(which, given), Buffer.alloc(40)]);
        bytes.set(noise.subarray(0, Math.max(bytes.length - at, 0)), at);
        expect(["incomplete", "malformed", "header"]).toContain(readProxyHeader(bytes).kind);
      }),
    );
  });
});

const IPV4: ConnectionEnds = {
  source: { address: "203.0.113.7", port: 56_324 },
  destination: { address: "192.0.2.1", port: 443 },
};

describe("version 1", () => {
  test("is the line of the specification", () => {
    expect(writeProxyHeader("v1", IPV4).toString()).toBe("PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n");
  });

  test("ends of two families are both IPv6", () => {
    const mixed = { source: IPV4.source, destination: { address: "2001:db8::1", port: 443 } };
    expect(writeProxyHeader("v1", mixed).toString()).toBe(
      "PROXY TCP6 ::ffff:cb00:7107 2001:db8::1 56324 443\r\n",
    );
  });

  test.each([
    ["PROXY UNKNOWN\r\nGET", 15],
    ["PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", 59],
  ])("%j says nothing of the ends", (text, length) => {
    expect(readProxyHeader(Buffer.from(text))).toEqual({ kind: "header", length });
  });

  test.each([
    "GET / HTTP/1.1\r\n",
    "PROXY TCP4 203.0.113.7 192.0.2.1 56324\r\n",
    "PROXY TCP4 203.0.113.7 192.0.2.1 56324 443 1\r\n",
    "PROXY TCP4 203.0.113.7 192.0.2.1 065 443\r\n",
    "PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n",
    "PROXY TCP6 203.0.113.7 192.0.2.1 56324 443\r\n",
    "PROXY UDP4 203.0.113.7 192.0.2.1 56324 443\r\n",
    `PROXY TCP4 ${"1".repeat(110)}`,
  ])("%j is malformed", (text) => {
    expect(readProxyHeader(Buffer.from(text)).kind).toBe("malformed");
  });
});

describe("version 2", () => {
  const signature = "0d0a0d0a000d0a515549540a";

  test("is the bytes of the specification", () => {
    expect(writeProxyHeader("v2", IPV4).toString("hex")).toBe(`${signature}2111000ccb007107c0000201dc0401bb`);
  });

  test("additional fields are passed over", () => {
    const bytes = Buffer.from(`${signature}21110013cb007107c0000201dc0401bb0400040a0b0c0dff`, "hex");
    expect(readProxyHeader(bytes)).toEqual({ kind: "header", length: bytes.length - 1, ends: IPV4 });
  });

  test.each([
    ["LOCAL (a health check)", `${signature}20000000`],
    ["LOCAL with addresses", `${signature}2011000ccb007107c0000201dc0401bb`],
    ["UNSPEC", `${signature}21000000`],
    ["a Unix socket", `${signature}213100d8${"00".repeat(216)}`],
  ])("%s says nothing of the ends", (_, hex) => {
    const bytes = Buffer.from(hex, "hex");
    expect(readProxyHeader(bytes)).toEqual({ kind: "header", length: bytes.length });
  });

  test.each([
    ["another version", `${signature}1111000ccb007107c0000201dc0401bb`],
    ["another command", `${signature}2211000ccb007107c0000201dc0401bb`],
    ["addresses that are cut", `${signature}2111000bcb007107c0000201dc0401`],
    ["a length without end", `${signature}2111ffff`],
  ])("%s is malformed", (_, hex) => {
    expect(readProxyHeader(Buffer.from(hex, "hex")).kind).toBe("malformed");
  });
});
