import { expect, test } from "vitest";
import { createAddressPolicy } from "./allowed-addresses.ts";

const pods = createAddressPolicy({ allowedCidrs: ["10.244.0.0/16", "fd00:1::/32", "192.0.2.7"] });
const everything = createAddressPolicy({ allowedCidrs: ["0.0.0.0/0", "::/0"] });
const laptop = createAddressPolicy({ allowedCidrs: ["0.0.0.0/0", "::/0"], allowLoopback: true });

test.each([
  ["10.244.3.4", true, true, true],
  ["10.245.0.1", false, true, true],
  ["192.0.2.7", true, true, true],
  ["192.0.2.8", false, true, true],
  ["fd00:1::5", true, true, true],
  ["fd00:2::5", false, true, true],
  ["::ffff:10.244.3.4", true, true, true],
  ["::ffff:af4:304", true, true, true],
  ["0:0:0:0:0:ffff:10.245.0.1", false, true, true],
  ["127.0.0.1", false, false, true],
  ["127.9.9.9", false, false, true],
  ["::1", false, false, true],
  ["0:0:0:0:0:0:0:1", false, false, true],
  ["::ffff:127.0.0.1", false, false, true],
  ["0.0.0.0", false, false, false],
  ["::", false, false, false],
  ["169.254.169.254", false, false, false],
  ["::ffff:a9fe:a9fe", false, false, false],
  ["fe80::1", false, false, false],
  ["224.0.0.1", false, false, false],
  ["255.255.255.255", false, false, false],
  ["localhost", false, false, false],
  ["10.244.3.4 ", false, false, false],
  ["", false, false, false],
])("%j: pods only %j, everything %j, a laptop %j", (address, inPods, inEverything, onLaptop) => {
  expect([pods(address), everything(address), laptop(address)]).toEqual([inPods, inEverything, onLaptop]);
});

test("an IPv6 range says nothing about IPv4 addresses", () => {
  expect(createAddressPolicy({ allowedCidrs: ["::/0"] })("10.0.0.1")).toBe(false);
});

test.each(["10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/8/8", "pods", ""])(
  "%j is no CIDR",
  (cidr) => {
    expect(() => createAddressPolicy({ allowedCidrs: [cidr] })).toThrow("is no CIDR");
  },
);
