/**
 * The node's own firewall and ours: what must get through though the host drops by default, and what must not though the
 * rules would let it.
 */
import { afterEach, expect, it } from "vitest";
import { FAMILIES, type Family, HOSTS, hostPort } from "./addresses.ts";
import { AgentRunner } from "./agent.ts";
import { portsOf, serviceNamed, vipOf } from "./destinations.ts";
import {
  describeNode,
  describe as describeOutcome,
  type NodeUnderTest,
  serviceWith,
  WITH_DETECTOR,
} from "./node-under-test.ts";
import { addKubeletRules } from "./rules.ts";
import type { TestService } from "./services.ts";

const LOOPBACK_PORT = 7_777;
const HEALTH_CHECK_PORT = 31_999;

describeNode("the host's firewall", ["iptables-nft", "iptables-legacy"], (node, { variant = "nft" }) => {
  const setPolicy = async (chain: "FORWARD" | "INPUT", policy: "DROP" | "ACCEPT") => {
    for (const program of ["iptables", "ip6tables"]) {
      await node().lab.namespaces.must("node-a", `${program}-${variant}`, ["-w", "-P", chain, policy]);
    }
  };

  afterEach(async () => {
    await setPolicy("FORWARD", "ACCEPT");
    await setPolicy("INPUT", "ACCEPT");
  });

  it("forwards what is masqueraded, and its answers, where forwarding is denied by default", async () => {
    await node().program([serviceWith("np", ["b1"]), serviceWith("np-local", ["a1"])]);
    await setPolicy("FORWARD", "DROP");
    for (const family of FAMILIES) {
      expect(await node().ask("client", "np node http", family)).toContain(HOSTS.b1[family]);
      expect(await node().ask("client", "np node dns", family)).toContain(HOSTS.b1[family]);
      // The policy holds for what is none of ours.
      expect(await node().ask("client", "b1 direct tcp/8080", family, 400)).toBe("silent");
    }
  });

  it("lets health checks of load balancers in where input is denied by default", async () => {
    const { lab } = node();
    await lab.serve("node-a", "tcp", HEALTH_CHECK_PORT);
    await lab.serve("node-a", "tcp", HEALTH_CHECK_PORT - 10);
    await node().program([serviceWith("lb-local", ["a1"])]);
    await setPolicy("INPUT", "DROP");
    const ask = async (port: number) =>
      (await lab.probe("client", "tcp", HOSTS["node-a"].ipv4, port, 400)).kind;
    expect(await ask(HEALTH_CHECK_PORT)).toBe("answered");
    expect(await ask(HEALTH_CHECK_PORT - 10)).toBe("silent");
  });

  it("drops what the connection table calls invalid where that is strict, as kube-proxy does", async () => {
    const { lab } = node();
    // There without node-a, back through it: node-a sees answers to nothing.
    const ways = FAMILIES.map(
      (family) => `${HOSTS.b1[family]} via ${HOSTS["node-b"][family]} dev eth0 onlink`,
    );
    await lab.namespaces.ip(
      "client",
      ways.map((way) => `route add ${way}`),
    );
    const ask = (family: Family) => node().ask("client", "b1 direct tcp/8080", family, 500);
    for (const [flags, want] of [
      [[], "untouched"],
      [["--no-conntrack-tcp-be-liberal"], "silent"],
      [[], "untouched"],
    ] as const) {
      await node().program([serviceWith("np", ["b1"])], ...flags);
      for (const family of FAMILIES) expect(await ask(family)).toBe(want);
    }
    await lab.namespaces.ip(
      "client",
      ways.map((way) => `route del ${way}`),
    );
  });
});

describeNode(
  "node ports at localhost",
  ["nftables", "iptables-nft", "iptables-legacy"],
  (node, { backend }) => {
    const which = backend === "nftables" ? "localhost" : "all";

    it("keeps the wire away from what listens on 127.0.0.1 only (CVE-2020-8558)", async () => {
      const { lab } = node();
      await lab.prober.serve(lab.netns("node-a"), "tcp", "127.0.0.1", LOOPBACK_PORT);
      await becomeAttacker(node());
      const attack = () => lab.probe("client", "tcp", "127.0.0.1", LOOPBACK_PORT, 500);
      await node().agent.agent("--cleanup");
      await lab.namespaces.sysctl("node-a", { "ipv4/conf/all/route_localnet": "1" });
      expect((await attack()).kind, "the attack works where nothing is done against it").toBe("answered");
      await node().program([serviceWith("np", ["a1"])], "--nodeport-addresses", which);
      expect((await attack()).kind).toBe("silent");
      expect(
        (await lab.probe("loopback", "tcp", "127.0.0.1", LOOPBACK_PORT, 2_000)).kind,
        "the node's own programs reach it",
      ).toBe("answered");
      // To others a node port there is none.
      expect(await node().ask("loopback", "np loopback http")).toBe(hostPort(HOSTS.a1.ipv4, 8080));
      if (backend === "nftables")
        expect(await node().ask("client", "np loopback http", "ipv4", 500)).toBe("silent");
      // Where what keeps others out goes, the kernel's setting goes first.
      const another = new AgentRunner(lab, { backend: backend === "nftables" ? "iptables" : "nftables" });
      for (const [how, leave] of [
        [
          "nobody asks any more",
          () => node().program([serviceWith("np", ["a1"])], "--nodeport-addresses", "primary"),
        ],
        [
          "another backend",
          () => another.program(node().manifest, ...WITH_DETECTOR, "--nodeport-addresses", "primary"),
        ],
        ["--cleanup", () => node().agent.agent("--cleanup")],
      ] as const) {
        await node().program([serviceWith("np", ["a1"])], "--nodeport-addresses", which);
        expect(await node().ask("loopback", "np loopback http")).toBe(hostPort(HOSTS.a1.ipv4, 8080));
        await leave();
        expect(await node().ask("loopback", "np loopback http"), how).toBe("reset");
        expect((await attack()).kind, how).toBe("silent");
      }
    });

    it("is closed by --init-only before an agent of another backend starts, which may not write settings", async () => {
      const { lab } = node();
      const setting = () =>
        lab.namespaces.must("node-a", "cat", ["/proc/sys/net/ipv4/conf/all/route_localnet"]);
      await node().program([serviceWith("np", ["a1"])], "--nodeport-addresses", which);
      expect(await setting()).toBe("1\n");
      const another = new AgentRunner(lab, { backend: backend === "nftables" ? "iptables" : "nftables" });
      const flags = ["--node", "node-a", "--nodeport-addresses", "primary"];
      expect(await another.agent("--init-only", ...flags)).toMatchObject({ code: 0, stderr: "" });
      expect(await setting()).toBe("0\n");
    });

    it("leaves a setting alone that nobody guards, or that somebody else guards, too", async () => {
      const { lab } = node();
      const setting = () =>
        lab.namespaces.must("node-a", "cat", ["/proc/sys/net/ipv4/conf/all/route_localnet"]);
      await node().agent.agent("--cleanup");
      await lab.namespaces.sysctl("node-a", { "ipv4/conf/all/route_localnet": "1" });
      await node().program([serviceWith("np", ["a1"])], "--nodeport-addresses", "primary");
      expect(await setting()).toBe("1\n");
      await addKubeletRules(lab);
      const guard = [
        ...["!", "-s", "127.0.0.0/8", "-d", "127.0.0.0/8", "-m", "comment", "--comment"],
        ...["block incoming localnet connections", "-m", "conntrack", "!", "--ctstate"],
        ...["RELATED,ESTABLISHED,DNAT", "-j", "DROP"],
      ];
      await lab.namespaces.must("node-a", "iptables-nft", ["-w", "-A", "KUBE-FIREWALL", ...guard]);
      await node().program([serviceWith("np", ["a1"])], "--nodeport-addresses", which);
      await node().agent.agent("--cleanup");
      expect(await setting()).toBe("1\n");
      await lab.namespaces.sysctl("node-a", { "ipv4/conf/all/route_localnet": "0" });
    });
  },
);

/** Lets the client send packets to 127.0.0.1 out on the wire. */
async function becomeAttacker({ lab }: NodeUnderTest): Promise<void> {
  // The answers come from an address that the client's loopback has, too.
  await lab.namespaces.sysctl("client", {
    "ipv4/conf/all/route_localnet": "1",
    "ipv4/conf/all/accept_local": "1",
  });
  await lab.namespaces.ip("client", [
    "route del local 127.0.0.0/8 dev lo table local",
    "route del local 127.0.0.1 dev lo table local",
    `route add 127.0.0.1/32 via ${HOSTS["node-a"].ipv4} dev eth0 onlink`,
  ]);
}

describeNode("marks of others", ["nftables", "iptables-nft", "iptables-legacy"], (node) => {
  it("stay on packets that are masqueraded, and ours does not", async () => {
    const { lab } = node();
    await node().program([serviceWith("np", ["b1"])]);
    // Marked before we see them, counted behind everybody by the whole mark.
    await lab.namespaces.must("node-a", "nft", ["-f", "-"], {
      input: ["ip", "ip6"]
        .map(
          (family) => `table ${family} foreign-mark {
            chain before { type filter hook prerouting priority -300; tcp dport 30000-32767 meta mark set 0x80011; }
            chain after { type filter hook postrouting priority 300; tcp dport 8080 meta mark 0x80011 counter comment "kept"; }
          }`,
        )
        .join("\n"),
    });
    for (const family of FAMILIES) {
      const outcome = await lab.probe("client", "tcp", HOSTS["node-a"][family], nodePortOf("np"));
      expect(outcome.kind === "answered" && outcome.seen !== outcome.local, "masqueraded").toBe(true);
      const table = family === "ipv4" ? "ip" : "ip6";
      const rules = await lab.namespaces.must("node-a", "nft", ["list", "table", table, "foreign-mark"]);
      expect(Number(/counter packets (\d+) bytes \d+ comment "kept"/.exec(rules)?.[1])).toBeGreaterThan(0);
      await lab.namespaces.must("node-a", "nft", ["delete", "table", table, "foreign-mark"]);
    }
  });
});

function nodePortOf(service: string): number {
  return portsOf(serviceNamed(service))[0]?.nodePort ?? 0;
}

describeNode("source ranges and the node", ["nftables", "iptables-nft", "iptables-legacy"], (node) => {
  it("ranges of one address each come, change and go", async () => {
    const only = (host: "client" | "far", others: readonly string[] = []): TestService => ({
      ...serviceNamed("ranges"),
      sourceRanges: [`${HOSTS[host].ipv4}/32`, `${HOSTS[host].ipv6}/128`, ...others],
    });
    const ask = (from: "client" | "far", family: Family) => node().ask(from, "ranges vip http", family, 500);
    for (const [service, allowed, denied] of [
      [only("client"), "client", "far"],
      [only("far"), "far", "client"],
      [only("far", ["10.180.0.0/16", "fd00:10:180::/48"]), "far", "client"],
      [only("client"), "client", "far"],
    ] as const) {
      await node().program([service]);
      for (const family of FAMILIES) {
        expect(await ask(allowed, family)).toMatch(/:8080$/);
        expect(await ask(denied, family)).toBe("silent");
      }
    }
    await node().program([serviceNamed("web")]);
    for (const family of FAMILIES) expect(await ask("client", family)).toBe("untouched");
  });

  it("a packet that comes back with the VIP as its source is let in where the node is", async () => {
    await node().program([serviceNamed("ranges"), serviceNamed("ranges-local")]);
    const { lab } = node();
    for (const family of FAMILIES) {
      for (const [name, allowed] of [
        ["ranges", true],
        ["ranges-local", false],
      ] as const) {
        const vip = vipOf(serviceNamed(name))[family];
        // An IPv6 address is tentative, and no source, until the kernel has seen to duplicates, also on lo.
        const length = family === "ipv4" ? "32" : "128 nodad";
        await lab.namespaces.ip("node-a", [`address add ${vip}/${length} dev lo`]);
        const outcome = await lab.prober.probe({
          netns: lab.netns("node-a"),
          protocol: "tcp",
          source: vip,
          address: vip,
          port: 80,
          timeoutMs: allowed ? 3_000 : 500,
        });
        const answer = describeOutcome(outcome, { address: vip, port: 80 });
        if (allowed) expect(answer).toMatch(/:8080$/);
        else expect(answer).toBe("silent");
      }
    }
  });
});
