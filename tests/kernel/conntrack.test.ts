/**
 * UDP has no end: a flow keeps the endpoint that was chosen at its start until somebody deletes its entry. After every
 * change the flows that nobody serves any longer must be gone, and no others.
 */
import { expect, it } from "vitest";
import { FAMILIES, HOSTS, hostPort } from "./addresses.ts";
import { clusterIpOf, serviceNamed } from "./destinations.ts";
import {
  describeNode,
  describe as describeOutcome,
  eventually,
  type NodeUnderTest,
  serviceWith,
} from "./node-under-test.ts";
import type { Held } from "./prober.ts";

const dns = (host: "a1" | "a2" | "b1" | "b2", family: (typeof FAMILIES)[number]) =>
  hostPort(HOSTS[host][family], 5353);

/** Who answers the next packet of the flow, in the words of `ask`. */
async function nextAnswer(held: Held): Promise<string> {
  return describeOutcome(await held.say(1_000), { address: "", port: 0 });
}

async function movesTo(held: Held, endpoint: string): Promise<void> {
  await eventually(
    () => nextAnswer(held),
    (answer) => answer === endpoint,
    `the flow to move to ${endpoint}`,
    10,
  );
}

describeNode("UDP flows", ["nftables", "iptables-nft", "iptables-legacy"], (node) => {
  for (const family of FAMILIES) {
    for (const [place, from] of [
      ["cluster", "pod"],
      ["node", "client"],
      ["vip", "client"],
      ["external", "client"],
      ["cluster", "node-a"],
    ] as const) {
      it(`${family} ${from} → ${place}: a flow leaves an endpoint that is gone, and a Service that comes gets its flows`, async () => {
        await node().program([serviceWith("lb", ["a1"])]);
        const held = await node().hold(from, `lb ${place} dns`, family);
        expect(await nextAnswer(held)).toBe(dns("a1", family));
        await node().program([serviceWith("lb", ["b1"])]);
        expect(await nextAnswer(held), "endpoint replaced").toBe(dns("b1", family));

        await node().program([serviceWith("lb", [])]);
        expect(await nextAnswer(held), "no endpoints").toBe("reject");
        await node().program([serviceWith("lb", ["a1"])]);
        expect(await nextAnswer(held), "from none to one").toBe(dns("a1", family));
        held.close();
      });
    }

    it(`${family}: flows from before the Service, and flows from after its end`, async () => {
      await node().program([]);
      const address = clusterIpOf(serviceNamed("web"))[family];
      const untouched = hostPort(address, 53);
      const held = await node().hold("pod", "web cluster dns", family);
      expect(await nextAnswer(held)).toBe(untouched);
      await node().program([serviceWith("web", ["a1"])]);
      expect(await nextAnswer(held), "created").toBe(dns("a1", family));
      await node().program([]);
      expect(await nextAnswer(held), "deleted").toBe(untouched);
      held.close();
    });

    it(`${family}: the running agent does the same`, async () => {
      await node().write([serviceWith("web", ["a1"])]);
      node().start();
      await node().until(dns("a1", family), "pod", "web cluster dns", family);
      const held = await node().hold("pod", "web cluster dns", family);
      await node().write([serviceWith("web", ["b1"])]);
      await movesTo(held, dns("b1", family));
      await node().write([serviceWith("web", [])]);
      await movesTo(held, "reject");
      await node().write([serviceWith("web", ["a2"])]);
      await movesTo(held, dns("a2", family));
      await node().write([]);
      await movesTo(held, hostPort(clusterIpOf(serviceNamed("web"))[family], 53));
      held.close();
    });

    it(`${family}: flows to endpoints that terminate but serve stay, as TCP does`, async () => {
      await node().program([serviceWith("web", ["a1"])]);
      const udp = await node().hold("pod", "web cluster dns", family);
      const tcp = await node().hold("pod", "web cluster http", family);
      await node().program([serviceWith("web", ["a1 terminating", "b1"])]);
      expect(await nextAnswer(udp)).toBe(dns("a1", family));
      await node().program([serviceWith("web", ["a1 dead", "b1"])]);
      expect(await nextAnswer(udp)).toBe(dns("b1", family));
      expect(await nextAnswer(tcp), "TCP").toBe(hostPort(HOSTS.a1[family], 8080));
      await node().program([serviceWith("web", ["b1"])]);
      expect(await nextAnswer(tcp), "TCP").toBe(hostPort(HOSTS.a1[family], 8080));
      udp.close();
      tcp.close();
    });

    it(`${family}: flows that are not ours keep their entries`, async () => {
      const web = serviceWith("web", ["a1"]);
      await node().program([web]);
      const marked = [
        // A pod's own address, with a port that no Service has.
        await node().hold("pod", "b2 direct udp/5353", family, 40_001),
        // Another address with the number of a Service's port.
        await node().hold("pod", "unallocated cluster udp/53", family, 40_002),
        // The node itself, with a number that is no node port.
        await node().hold("client", "np node udp/7070", family, 40_003),
      ];
      await mark(node(), family);
      const before = await countMarked(node(), family);
      expect(before).toBeGreaterThanOrEqual(2);
      await node().program([serviceWith("web", ["b1"])]);
      await node().program([serviceWith("web", [])]);
      await node().program([]);
      expect(await countMarked(node(), family)).toBe(before);
      for (const held of marked) held.close();
    });
  }

  it("leaves the flows of endpoints that stay", async () => {
    await node().program([serviceWith("web", ["a1", "b1"])]);
    const held = await Promise.all(Array.from({ length: 24 }, () => node().hold("pod", "web cluster dns")));
    const before = await Promise.all(held.map(nextAnswer));
    await node().program([serviceWith("web", ["a1", "a2"])]);
    const after = await Promise.all(held.map(nextAnswer));
    after.forEach((answer, index) => {
      if (before[index] === dns("a1", "ipv4")) expect(answer).toBe(dns("a1", "ipv4"));
      else expect([dns("a1", "ipv4"), dns("a2", "ipv4")]).toContain(answer);
    });
    expect(before).toContain(dns("a1", "ipv4"));
    expect(before).toContain(dns("b1", "ipv4"));
    for (const one of held) one.close();
  });
});

const MARK = "7777";
const CONNTRACK_FAMILY = { ipv4: "ipv4", ipv6: "ipv6" } as const;

/** Marks the entries of the three sockets: an entry that was deleted and made anew has no mark. */
async function mark(node: NodeUnderTest, family: (typeof FAMILIES)[number]): Promise<void> {
  for (const port of ["40001", "40002", "40003"]) {
    await node.lab.namespaces.run("node-a", "conntrack", [
      ...["-U", "-f", CONNTRACK_FAMILY[family], "-p", "udp", "--orig-port-src", port, "-m", MARK],
    ]);
  }
}

async function countMarked(node: NodeUnderTest, family: (typeof FAMILIES)[number]): Promise<number> {
  const { stdout } = await node.lab.namespaces.run("node-a", "conntrack", [
    ...["-L", "-f", CONNTRACK_FAMILY[family], "-p", "udp", "-m", MARK],
  ]);
  return stdout.split("\n").filter((line) => line.includes(`mark=${MARK}`)).length;
}
