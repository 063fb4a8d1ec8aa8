import { expect, it } from "vitest";
import { HOSTS, hostPort } from "./addresses.ts";
import { describeCounters } from "./counters.ts";
import { serviceNamed } from "./destinations.ts";
import { describeNode, eventually, serviceWith } from "./node-under-test.ts";

const A1 = hostPort(HOSTS.a1.ipv4, 8080);

describeCounters("nftables", "iptables-nft", "iptables-legacy");

describeNode("counters of nftables", ["nftables"], (node) => {
  /** Number and packets of each counter. */
  const counters = async (): Promise<Readonly<Record<string, number>>> => {
    const listing = await node().lab.namespaces.must("node-a", "nft", [
      "-nn",
      "list",
      "set",
      "ip",
      "fairlead",
      "connections",
    ]);
    const found = listing.matchAll(/([0-9a-f]*:[0-9a-f]*) counter packets (\d+) /g);
    return Object.fromEntries([...found].map(([, number = "", packets]) => [number, Number(packets)]));
  };

  it("go with their Service, and the next one has a number of its own", async () => {
    await node().write([serviceNamed("single")]);
    node().start();
    for (let time = 0; time < 3; time++) await node().until(A1, "pod", "single cluster http");
    const [number = "", ...others] = Object.keys(await counters());
    expect(others).toEqual([]);
    expect(await counters()).toEqual({ [number]: expect.toSatisfy((packets: number) => packets >= 3) });
    await node().write([]);
    await eventually(counters, (seen) => Object.keys(seen).length === 0, "the counter to be gone");
    await node().write([serviceWith("web", ["a1"])]);
    await node().until(A1, "pod", "web cluster http");
    const after = Object.keys(await counters());
    expect(after).toHaveLength(1);
    expect(after).not.toContain(number);
  });

  it("that belong to nobody go when the agent starts", async () => {
    await node().program([serviceNamed("single")]);
    expect(await node().ask("pod", "single cluster http")).toBe(A1);
    const before = await counters();
    await node().lab.namespaces.must("node-a", "nft", ["add element ip fairlead connections { 0x80ffe000 }"]);
    await node().program([serviceNamed("single")]);
    expect(await counters()).toEqual(before);
  });
});
