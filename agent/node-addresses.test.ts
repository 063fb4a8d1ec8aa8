import { expect, test } from "vitest";
import type { Node } from "../cluster/model.ts";
import { interfaceAddresses, localAddresses, nodeAddresses } from "./node-addresses.ts";

function node(...addresses: readonly (readonly [string, string])[]): Node {
  return {
    kind: "Node",
    meta: { namespace: "", name: "n1", labels: {}, annotations: {} },
    addresses: addresses.map(([type, address]) => ({ type, address })),
    podCIDRs: [],
    taints: [],
    deleting: false,
  };
}

test("internal addresses come first, names are none, spelling is canonical", () => {
  const given = node(
    ["ExternalIP", "203.0.113.7"],
    ["Hostname", "n1"],
    ["InternalIP", "192.168.000.2"],
    ["InternalIP", "FD00:0::2"],
    ["InternalIP", "192.168.0.2"],
  );
  expect(nodeAddresses(given, () => ["10.9.9.9"])).toEqual({
    IPv4: ["192.168.0.2", "203.0.113.7"],
    IPv6: ["fd00::2"],
  });
});

test("a family that the Node does not name is that of the interfaces", () => {
  expect(nodeAddresses(node(["InternalIP", "192.168.0.2"]), () => ["10.9.9.9", "fd00::9"])).toEqual({
    IPv4: ["192.168.0.2"],
    IPv6: ["fd00::9"],
  });
  expect(nodeAddresses(undefined, () => ["10.9.9.9"])).toEqual({ IPv4: ["10.9.9.9"], IPv6: [] });
});

test("interfaces: neither loopback nor link-local; what arrives here includes loopback", () => {
  for (const address of interfaceAddresses()) expect(address).not.toMatch(/^(127\.|::1$|fe80|169\.254)/);
  expect([...localAddresses()]).toContain("127.0.0.1");
});
