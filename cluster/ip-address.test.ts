import { isIPv6 } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseIpAddress, parseIpRange } from "./ip-address.ts";

describe("addresses in one spelling", () => {
  test.each<[string, string]>([
    ["10.0.0.1", "10.0.0.1"],
    ["172.30.0.041", "172.30.0.41"],
    ["0000.00.0.001", "0.0.0.1"],
    ["FD00:0:0:0:0:0:0:1", "fd00::1"],
    ["fd00::", "fd00::"],
    ["::", "::"],
    ["::1", "::1"],
    ["1:0:0:2:0:0:0:3", "1:0:0:2::3"],
    ["1:0:0:2:3:0:0:4", "1::2:3:0:0:4"],
    ["1:2:3:4:5:6:0:8", "1:2:3:4:5:6:0:8"],
    ["::ffff:10.0.0.1", "10.0.0.1"],
    ["::ffff:a00:1", "10.0.0.1"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
  ])("%s", (text, want) => {
    expect(parseIpAddress(text)?.text).toBe(want);
  });

  test.each([
    "",
    "1.2.3",
    "1.2.3.4.5",
    "256.0.0.1",
    "1.2.3.-4",
    "1.2.3.4 ",
    "0x1.2.3.4",
    "1.2.3.4/8",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "g::1",
    "fd00::1%eth0",
    "[::1]",
    "1.2.3.4::",
    "::1.2.3",
    "12345::",
    "localhost",
  ])("%j is none", (text) => {
    expect(parseIpAddress(text)).toBeUndefined();
  });

  test("IPv6 is read as the system reads it, and written once and for all", () => {
    const group = fc.oneof(
      fc.constant("0"),
      fc.integer({ min: 0, max: 0xffff }).map((number) => number.toString(16)),
    );
    fc.assert(
      fc.property(fc.array(group, { minLength: 0, maxLength: 9 }), fc.option(fc.nat(9)), (groups, gap) => {
        const text =
          gap === null
            ? groups.join(":")
            : `${groups.slice(0, gap).join(":")}::${groups.slice(gap).join(":")}`;
        const address = parseIpAddress(text);
        expect(address !== undefined, text).toBe(isIPv6(text));
        if (address !== undefined) expect(parseIpAddress(address.text)).toEqual(address);
        if (address?.family === "IPv6")
          expect(`[${address.text}]`).toBe(new URL(`http://[${text}]`).hostname);
      }),
      { numRuns: 2000 },
    );
  });
});

test.each<[string, string | undefined]>([
  ["203.0.113.000/025", "203.0.113.0/25"],
  ["0.0.0.0/0", "0.0.0.0/0"],
  ["FD00::/8", "fd00::/8"],
  ["10.0.0.0/33", undefined],
  ["10.0.0.0", undefined],
  ["10.0.0.0/", undefined],
  ["10.0.0.0/-1", undefined],
  ["::/129", undefined],
])("range %s", (text, want) => {
  expect(parseIpRange(text)?.text).toBe(want);
});
