import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatAddress, parseAddress, parseCidr } from "../../edge-config/address.ts";
import { forbiddenHost } from "./addresses.ts";
import type { Reader } from "./reader.ts";
import {
  choice,
  cidrs,
  flag,
  headerNames,
  integer,
  list,
  onOff,
  pattern,
  reference,
  seconds,
  size,
  statusCodes,
  template,
  url,
} from "./readers.ts";

function read<T>(reader: Reader<T, T | undefined>, text: string): T | "unreadable" {
  const reading = reader.read(text);
  return reading.kind === "Value" ? reading.value : "unreadable";
}

describe("readers", () => {
  test.each([
    ["flag", flag("."), ["1", "t", "T", "TRUE", "true", "True"], true],
    ["flag", flag("."), ["0", "f", "F", "FALSE", "false", "False"], false],
    ["flag", flag("."), ["yes", "on", "tRUE", "2", "truе"], "unreadable"],
    ["onOff", onOff("."), ["true", "ON", "1"], "unreadable"],
    ["integer", integer("."), ["7", "+7", "007"], 7],
    ["integer", integer("."), ["-1", "7k", "7.0", "0x7", "1e3", "2147483648", "7 7", "٧"], "unreadable"],
    ["seconds", seconds("."), ["60s", "1m", "-1"], "unreadable"],
    ["size", size("."), ["8m", "8M", "8388608", "8192k", "8388608b"], 8_388_608],
    ["size", size("."), ["8Mi", "15r", "-1", "1.5m", "m", "8 m"], "unreadable"],
    ["choice", choice(".", ["GRPC", "HTTP"], { ignoreCase: true }), ["grpc", "GRPC", "Grpc"], "GRPC"],
    ["choice", choice(".", ["any", "all"]), ["ANY", "none"], "unreadable"],
    ["pattern", pattern("."), ["(", "(?=a)", "(a)\\1", "[[:alpha:", "a++"], "unreadable"],
  ])("%s", (_, reader, texts, want) => {
    for (const text of texts)
      expect([text, read(reader as Reader<unknown, unknown>, text)]).toEqual([text, want]);
  });

  test.each([
    [list("."), "a, b,,c", ["a", "b", "c"]],
    [list(".", { separator: " " }), "error  timeout", ["error", "timeout"]],
    [list("."), ", ,", "unreadable"],
    [headerNames("."), "X-A, x_b", ["X-A", "x_b"]],
    [headerNames("."), "X-A, b c", "unreadable"],
    [headerNames("."), "X-A,\nX-B", ["X-A", "X-B"]],
    [headerNames("."), "X-A\nX-B", "unreadable"],
    [statusCodes("."), "404, 500,404", [404, 500]],
    [statusCodes("."), "404,2000", "unreadable"],
    [statusCodes("."), "200", "unreadable"],
    [cidrs("."), "10.1.2.3/8, 192.168.0.1,2001:DB8::1/33", ["10.0.0.0/8", "192.168.0.1/32", "2001:db8::/33"]],
    [cidrs("."), "10.0.0.0/8,10.0.0.0/33", "unreadable"],
    [cidrs("."), "10.0.0.0/8;10.1.0.0/16", "unreadable"],
    [cidrs("."), "010.0.0.1", "unreadable"],
    [cidrs("."), "10.0.0.0/08", "unreadable"],
    [reference(".", "Secret"), "a/b", { namespace: "a", name: "b" }],
    [reference(".", "Secret"), "b", { name: "b" }],
    [reference(".", "Secret"), "../b", "unreadable"],
    [reference(".", "Secret"), "a/b/c", "unreadable"],
    [template("."), "/x?u=$arg_u-$", "unreadable"],
    [
      template("."),
      "/x?u=$Arg_U-$".concat("{http_x_key}."),
      ["/x?u=", { variable: "arg_u" }, "-", { variable: "http_x_key" }, "."],
    ],
    [template("."), "$ssl_client_cert", "unreadable"],
    [template("."), "$binary_remote_addr", [{ variable: "remote_addr" }]],
  ])("%#: %j", (reader, text, want) => {
    expect(read(reader as Reader<unknown, unknown>, text)).toEqual(want);
  });

  test("a URL in its parts", () => {
    expect(read(url("."), "HTTPS://Auth.Example.org.:8443?x=1#f")).toEqual({
      scheme: "https",
      host: { kind: "Literal", name: "auth.example.org", port: 8443, authority: "auth.example.org:8443" },
      target: ["/?x=1"],
    });
    expect(read(url("."), "http://[2001:DB8::0:1]/")).toMatchObject({
      host: { name: "2001:db8::1", authority: "[2001:db8::1]", port: 80 },
    });
  });

  test("no reader throws, whatever the text", () => {
    const readers = [
      flag("."),
      integer("."),
      size("."),
      list("."),
      cidrs("."),
      template("."),
      url("."),
      pattern("."),
      reference(".", "ConfigMap"),
      headerNames("."),
    ];
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        for (const reader of readers as readonly Reader<unknown, unknown>[])
          expect(reader.read(text).kind).toMatch(/^(Value|Unreadable)$/);
      }),
    );
  });
});

describe("addresses", () => {
  test("what is written comes back canonical", () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
        const bytes = parseAddress(text);
        expect(bytes).toBeDefined();
        const canonical = formatAddress(bytes ?? []);
        expect(parseAddress(canonical)).toEqual(bytes);
        expect(formatAddress(parseAddress(canonical) ?? [])).toBe(canonical);
      }),
    );
  });

  test.each([
    ["1:0:0:2:0:0:0:3", "1:0:0:2::3"],
    ["1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"],
    ["0:0:0:0:0:0:0:0", "::"],
    ["::ffff:1.2.3.4", "::ffff:102:304"],
  ])("RFC 5952: %s is %s", (text, want) => {
    expect(formatAddress(parseAddress(text) ?? [])).toBe(want);
  });

  test.each([
    "1::2::3",
    "1:2:3",
    "::12345",
    "1.2.3",
    "1.2.3.256",
    "1.2.3.4.5",
    "1.2.3.4::",
    ":::",
    "1:2:3:4:5:6:7:8:9",
    "",
  ])("%j is no address", (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  test("a prefix clears what is beyond it, at every length", () => {
    for (let length = 0; length <= 32; length++) {
      const mask = length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0;
      const want = [24, 16, 8, 0].map((shift) => (mask >>> shift) & 0xff).join(".");
      expect(parseCidr(`255.255.255.255/${length}`)).toBe(`${want}/${length}`);
    }
  });

  test.each([
    ["127.9.9.9", "loopback"],
    ["::1", "loopback"],
    ["::ffff:127.0.0.1", "loopback"],
    ["LOCALHOST.", "loopback"],
    ["a.localhost", "loopback"],
    ["169.254.169.254", "link-local"],
    ["fe80::1", "link-local"],
    ["0.0.0.0", "unspecified"],
    ["::", "unspecified"],
    ["224.0.0.1", "multicast"],
    ["ff02::1", "multicast"],
    ["fd00:ec2::254", "cloud metadata"],
    ["10.0.0.1", undefined],
    ["fd00::1", undefined],
    ["::ffff:10.0.0.1", undefined],
    ["localhost.example.com", undefined],
  ])("%s: %s", (host, want) => {
    expect(forbiddenHost(host)).toBe(want);
  });
});
