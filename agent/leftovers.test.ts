import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { planRemoval } from "./kernel/iptables.ts";
import { countActive, leftoverChains, removeLeftovers } from "./leftovers.ts";
import { makeNamespace, type TestNamespace, whyNoKernel } from "./testing/namespace.ts";

/** Every removal starts many programs, on a machine that others use too. */
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

test("open connections through IPVS are counted, those that end are not", () => {
  expect(
    countActive(`IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  172.30.0.41:80 rr
  -> 10.180.0.1:8080              Masq    1      2          7         
  -> 10.180.0.2:8080              Masq    0      1          0         
TCP  [fd00::41]:80 rr persistent 10800
  -> [fd00:1::1]:8080             Masq    1      4          0         
UDP  172.30.0.41:53 rr
  -> 10.180.0.1:5353              Masq    1      0          9         
`),
  ).toBe(7);
  expect(countActive("")).toBe(0);
});

test("IPVS after iptables: the chains of one table are left over, those of the same name in another are in use", () => {
  // As kube-proxy's iptables mode leaves it; a REJECT of a Service that had no endpoints would outlive it.
  const filter = `*filter
:INPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A FORWARD -j KUBE-FORWARD
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A KUBE-EXTERNAL-SERVICES -p tcp -m addrtype --dst-type LOCAL -m tcp --dport 30001 -j REJECT
COMMIT
`;
  expect(planRemoval(filter, leftoverChains("ipvs", []))).toBe(`*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-SERVICES - [0:0]
-D INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-D OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-X KUBE-EXTERNAL-SERVICES
-X KUBE-SERVICES
COMMIT
`);
  const isLeft = leftoverChains("ipvs", []);
  expect(isLeft("KUBE-SERVICES", "nat")).toBe(false);
  // kube-proxy's IPVS mode holds source ranges in `filter`, ours in `mangle`.
  expect(isLeft("KUBE-PROXY-FIREWALL", "filter")).toBe(true);
  expect(isLeft("KUBE-PROXY-FIREWALL", "mangle")).toBe(false);
  expect(isLeft("KUBE-NODE-PORT", "filter")).toBe(false);
  expect(isLeft("KUBE-NODE-PORT", "mangle")).toBe(true);
  expect(isLeft("KUBE-FIREWALL", "filter"), "kubelet's").toBe(false);
});

test("iptables after IPVS: what IPVS has in mangle goes", () => {
  const isLeft = leftoverChains("iptables", []);
  expect(isLeft("KUBE-PROXY-FIREWALL", "mangle")).toBe(true);
  expect(isLeft("KUBE-PROXY-FIREWALL", "filter")).toBe(false);
  expect(isLeft("KUBE-KUBELET-CANARY", "mangle"), "kubelet's").toBe(false);
  expect(isLeft("KUBE-IPVS-OUT-FILTER", "filter")).toBe(true);
});

const reason = whyNoKernel(["nft", "iptables", "ipset"]);

describe.skipIf(reason !== undefined)(`in a namespace${reason === undefined ? "" : ` (${reason})`}`, () => {
  let space: TestNamespace;
  beforeAll(() => {
    space = makeNamespace("left");
  });
  afterAll(() => space.remove());

  test("sets of IPVS and its link go, also where the kernel's part is not loaded; sets of others stay", async () => {
    space.run(`
ip link add kube-ipvs0 type bridge
ipset create KUBE-CLUSTER-IP hash:ip,port
ipset create KUBE-6-CLUSTER-IP hash:ip,port family inet6
ipset create KUBE-HEALTH-CHECK-NODE-PORT bitmap:port range 0-65535
ipset create MINE hash:ip
iptables -t nat -N KUBE-SERVICES
iptables -t nat -A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
`);
    const { removed, problems } = await removeLeftovers(undefined, [], space);
    expect(problems).toEqual([]);
    expect(removed).toContain("ipsets");
    expect(space.run("ipset list -name")).toBe("MINE\n");
    expect(space.run("ip -o link")).not.toContain("kube-ipvs0");
    expect((await removeLeftovers(undefined, [], space)).removed).toEqual([]);
  });
});
