import { Command } from "commander";
import { describe, expect, test } from "vitest";
import { addNatOptions, type NatFlags, natSettings, packetAddress, packetSocket } from "./nat-input.ts";

function settings(...args: readonly string[]) {
  const command = addNatOptions(new Command("test"))
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  command.parse(args, { from: "user" });
  return natSettings(command.opts<NatFlags>());
}

test("defaults", () => {
  expect(settings("--node", "n1")).toEqual({
    node: "n1",
    backend: "nftables",
    localDetector: { kind: "none" },
    masqueradeAll: false,
    dropInvalid: false,
    masqueradeBit: 14,
    serviceCidrs: [],
    nodePortAddresses: ["primary"],
  });
  expect(settings("--node", "n1", "--backend", "iptables").nodePortAddresses).toEqual(["all"]);
  expect(settings("--node", "n1", "--backend", "ipvs").nodePortAddresses).toEqual(["all"]);
});

test("all flags, canonical", () => {
  expect(
    settings(
      ...["--node", "node-1.example", "--backend", "iptables", "--masquerade-all"],
      ...["--masquerade-bit", "15", "--service-cidr", "10.96.0.0/12"],
      ...["--cluster-cidr", "10.180.00.0/16, FD01:0::/48"],
      ...["--nodeport-addresses", "primary,192.168.0.0/24", "--no-conntrack-tcp-be-liberal"],
      ...["--tcp-services", "ingress-nginx/tcp", "--udp-services", "ingress-nginx/udp"],
    ),
  ).toEqual({
    node: "node-1.example",
    backend: "iptables",
    localDetector: { kind: "cidrs", cidrs: ["10.180.0.0/16", "fd01::/48"] },
    masqueradeAll: true,
    dropInvalid: true,
    masqueradeBit: 15,
    serviceCidrs: ["10.96.0.0/12"],
    nodePortAddresses: ["primary", { cidr: "192.168.0.0/24" }],
    tcpServices: "ingress-nginx/tcp",
    udpServices: "ingress-nginx/udp",
  });
});

test.each([
  ["--node-pod-cidrs", { kind: "nodePodCidrs" }],
  ["--pod-interface=cni0", { kind: "interface", name: "cni0" }],
  ["--pod-interface-prefix=veth", { kind: "interfacePrefix", prefix: "veth" }],
] as const)("Pods are told by %s", (flag, localDetector) => {
  expect(settings("--node", "n1", flag)).toMatchObject({ localDetector });
});

test("localhost is a name for both loopback ranges", () => {
  expect(settings("--node", "n1", "--nodeport-addresses", "localhost,primary").nodePortAddresses).toEqual([
    { cidr: "127.0.0.0/8" },
    { cidr: "::1/128" },
    "primary",
  ]);
});

test.each([
  [[], /--node/],
  [["--node", "n1", "--node-pod-cidrs", "--cluster-cidr", "10.0.0.0/8"], /exclude each other/],
  [["--node", "n1", "--masquerade-bit", "32"], /no bit from 0 to 31/],
  [["--node", "n1", "--pod-interface", "a b"], /no name of an interface/],
  [["--node", "n1", "--pod-interface", "cni0", "--cluster-cidr", "10.0.0.0/8"], /exclude each other/],
  [["--node", "Node 1"], /is no name of a node/],
  [["--node", "n1", "--backend", "ebpf"], /nftables, iptables, ipvs/],
  [["--node", "n1", "--cluster-cidr", "10.0.0.0"], /"10.0.0.0" is no range/],
  [["--node", "n1", "--cluster-cidr", "10.0.0.0/33"], /is no range/],
  [
    ["--node", "n1", "--nodeport-addresses", "secondary"],
    /"secondary" is none of primary, all and localhost, and no range/,
  ],
  [["--node", "n1", "--tcp-services", "tcp"], /is not namespace\/name/],
] as const)("%j is refused", (args, message) => {
  expect(() => settings(...args)).toThrow(message);
});

describe("packets", () => {
  test.each([
    ["10.0.0.2", "10.0.0.2"],
    ["010.0.0.02", "10.0.0.2"],
    ["fd00:0::2", "fd00::2"],
    ["[fd00::2]", "fd00::2"],
  ])("from %s", (text, want) => expect(packetAddress(text)).toBe(want));

  test.each(["", "10.0.0", "10.0.0.2:80", "host"])("not from %j", (text) => {
    expect(() => packetAddress(text)).toThrow(/is no IP address/);
  });

  test.each([
    ["10.96.0.10:53", { address: "10.96.0.10", port: 53 }],
    ["[FD00::a]:65535", { address: "fd00::a", port: 65535 }],
  ])("to %s", (text, want) => expect(packetSocket(text)).toEqual(want));

  test.each([
    "10.96.0.10",
    "10.96.0.10:0",
    "10.96.0.10:65536",
    "fd00::a:53",
    "[10.96.0.10]:53",
    ":53",
    "host:53",
  ])("not to %j", (text) => {
    expect(() => packetSocket(text)).toThrow(/is no address with a port/);
  });
});
