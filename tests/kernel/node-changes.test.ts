/**
 * The Node object changes while the agent runs: its zone, its Pod ranges, its addresses. Rules follow without a restart.
 */
import { expect, it } from "vitest";
import { HOSTS } from "./addresses.ts";
import { clusterIpOf, serviceNamed } from "./destinations.ts";
import { NODES, nodeObject, objectsOf, type TestNode, writeObjects } from "./manifest.ts";
import { describeNode, eventually, type NodeUnderTest } from "./node-under-test.ts";

const SERVICES = ["zones", "np-local", "single"].map(serviceNamed).flatMap(objectsOf);
const NODE_A: TestNode = {
  name: "node-a",
  zone: "zone-a",
  addresses: [HOSTS["node-a"], HOSTS["node-a-second"]],
  podCIDRs: ["10.180.0.0/24", "fd00:10:180::/64"],
};

/** What the agent is to see, with node-a changed so. */
async function write(node: NodeUnderTest, change: Partial<TestNode>): Promise<void> {
  await writeObjects(node.manifest, [nodeObject({ ...NODE_A, ...change }), ...NODES.slice(1), ...SERVICES]);
}

describeNode("the Node changes", ["nftables", "iptables-nft"], (node) => {
  it("another zone: other endpoints are near", async () => {
    await write(node(), {});
    node().start();
    await node().until("10.180.0.11:8080", "pod", "zones cluster http");
    await write(node(), { zone: "zone-b" });
    await node().until("10.180.1.11:8080", "pod", "zones cluster http");
    // No endpoint is meant for this one, so all are.
    await write(node(), { zone: "zone-c" });
    const seen = new Set<string>();
    await eventually(
      async () => seen.add(await node().ask("pod", "zones cluster http")).size,
      (size) => size === 2,
      "both endpoints to be met",
    );
    await write(node(), {});
    await eventually(
      async () => Promise.all(Array.from({ length: 12 }, () => node().ask("pod", "zones cluster http"))),
      (answers) => answers.every((answer) => answer === "10.180.0.11:8080"),
      "the endpoint of the zone to be the only one again",
    );
  });

  it("other Pod ranges: others count as Pods of this node", async () => {
    const address = clusterIpOf(serviceNamed("single"));
    /** Whether the endpoint sees the pod itself. */
    const until = (isSeen: boolean) =>
      eventually(
        () =>
          Promise.all(
            [address.ipv4, address.ipv6].map(async (to) => {
              const outcome = await node().lab.probe("pod", "tcp", to, 80);
              return outcome.kind === "answered" ? outcome.seen === outcome.local : outcome.kind;
            }),
          ),
        (seen) => seen.every((one) => one === isSeen),
        `the pod ${isSeen ? "" : "not "}to be seen as it is`,
      );
    await node().agent.agent("--cleanup");
    await write(node(), { podCIDRs: ["10.180.9.0/24", "fd00:10:180:9::/64"] });
    const agent = node().startWith("--node-pod-cidrs");
    await until(false);
    await write(node(), {});
    await until(true);
    await write(node(), { podCIDRs: ["10.180.9.0/24", "fd00:10:180:9::/64"] });
    await until(false);
    // Without any range nobody knows who is a Pod, so nobody is masqueraded.
    await write(node(), { podCIDRs: [] });
    await until(true);
    // Each family has a line of its own, and the rules may be there before both lines have come through the pipe.
    await eventually(
      async () => agent.output,
      (said) => ["IPv4", "IPv6"].every((one) => said.includes(`spec.podCIDRs: no range of ${one} is there`)),
      "both families to be told of",
    );
  });

  it("another primary address: node ports go with it", async () => {
    await node().agent.agent("--cleanup");
    await write(node(), {});
    node().start("--nodeport-addresses", "primary");
    for (const family of ["ipv4", "ipv6"] as const) {
      const answer = family === "ipv4" ? "10.180.0.11:8080" : "[fd00:10:180::11]:8080";
      await write(node(), {});
      await node().until(answer, "client", "np-local node http", family);
      expect(await node().ask("client", "np-local second http", family)).toBe("reset");
      await write(node(), { addresses: [HOSTS["node-a-second"], HOSTS["node-a"]] });
      await node().until(answer, "client", "np-local second http", family);
      await node().until("reset", "client", "np-local node http", family);
    }
  });
});
