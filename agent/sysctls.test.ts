import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { applySysctls, CONNTRACK_DEFAULTS, conntrackSysctls, nodeSysctls } from "./sysctls.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fairlead-sysctl-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function put(name: string, value: string): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${value}\n`);
  return path;
}

test("kube-proxy's figures: by processor, with a floor; a quarter of it in buckets", () => {
  const values = (processors: number) =>
    Object.fromEntries(
      conntrackSysctls(CONNTRACK_DEFAULTS, processors).map(({ name, value }) => [
        name.split("/").at(-1),
        value,
      ]),
    );
  expect(values(2)).toEqual({
    nf_conntrack_max: 131_072,
    nf_conntrack_buckets: 32_768,
    nf_conntrack_tcp_timeout_established: 86_400,
    nf_conntrack_tcp_timeout_close_wait: 3_600,
    nf_conntrack_tcp_be_liberal: 1,
  });
  expect(values(64).nf_conntrack_max).toBe(2_097_152);
  expect(conntrackSysctls({ ...CONNTRACK_DEFAULTS, maxPerCore: 0 }, 2).map(({ name }) => name)).not.toContain(
    "net/netfilter/nf_conntrack_max",
  );
});

test("only what differs is written, a higher limit stays, what is not there is left alone", async () => {
  const same = put("a/same", "5");
  const lower = put("a/lower", "5");
  const higher = put("a/higher", "9");
  const other = put("a/other", "9");
  const result = await applySysctls(
    [
      { name: "a/same", value: 5 },
      { name: "a/lower", value: 7, atLeast: true },
      { name: "a/higher", value: 7, atLeast: true },
      { name: "a/other", value: 7 },
      { name: "a/missing", value: 7 },
    ],
    folder,
  );
  expect(result).toEqual({ set: ["a/lower = 7", "a/other = 7"], problems: [] });
  expect([same, lower, higher, other].map((path) => Number(readFileSync(path, "utf8")))).toEqual([
    5, 7, 9, 7,
  ]);
});

test("loopback is opened for node ports where they are asked for there: by name, or with all addresses for iptables", () => {
  const backends = ["nftables", "iptables", "ipvs"] as const;
  const opening = (...which: readonly (string | { readonly cidr: string })[]) =>
    backends.filter((backend) => {
      const nodePortAddresses = which as Parameters<typeof nodeSysctls>[0]["nodePortAddresses"];
      return nodeSysctls({ backend, nodePortAddresses }, ["IPv4", "IPv6"]).length > 0;
    });
  expect(opening("primary", { cidr: "192.168.0.0/24" }, { cidr: "::1/128" })).toEqual([]);
  expect(opening("all")).toEqual(["iptables"]);
  expect(opening({ cidr: "0.0.0.0/0" })).toEqual(["iptables"]);
  expect(opening("primary", { cidr: "127.0.0.0/8" })).toEqual(["nftables", "iptables"]);
  expect(opening({ cidr: "127.0.0.1/32" })).toEqual(["nftables", "iptables"]);
  const localhost = [{ cidr: "127.0.0.0/8" }];
  expect(nodeSysctls({ backend: "nftables", nodePortAddresses: localhost }, ["IPv6"])).toEqual([]);
});

test("what cannot be written is one sentence", async () => {
  // A limit of the kernel's own that nobody can change, root included.
  const result = await applySysctls([{ name: "kernel/ngroups_max", value: 1 }]);
  expect(result.set).toEqual([]);
  expect(result.problems).toEqual([
    expect.stringMatching(/^sysctl kernel\.ngroups_max stays \d+ instead of 1: E/),
  ]);
});

test("a setting of a module that is not loaded is told where a backend does not work without it", async () => {
  const result = await applySysctls([
    { name: "net/no-such/conntrack", value: 1, module: "ip_vs" },
    { name: "net/no-such/other", value: 1 },
  ]);
  expect(result).toEqual({
    set: [],
    problems: ["sysctl net.no-such.conntrack is not there to be set to 1: the kernel has no ip_vs."],
  });
});
