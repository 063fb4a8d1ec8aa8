/**
 * `fairlead agent explain` beside a kernel that an agent has programmed: it finds there what the compiler says, tells what was
 * counted and who is connected, and says what does not fit.
 */
import { expect, it } from "vitest";
import { FAMILIES, type Family, HOSTS, type HostName, hostPort } from "./addresses.ts";
import { type Destination, readDestination, serviceNamed } from "./destinations.ts";
import { ALWAYS_THERE, describeNode, eventually, serviceWith } from "./node-under-test.ts";

/** What these tests look at. */
interface Explained {
  readonly owner?: { readonly service: string; readonly kind: string };
  readonly trace: { readonly verdict: string; readonly endpoints: readonly string[] };
  readonly endpoints: readonly { readonly endpoint: string; readonly isIn: boolean; readonly why: string }[];
  readonly kernel: {
    readonly lines: readonly string[];
    readonly endpoints: readonly string[];
    readonly connections?: number;
  };
  readonly connections: readonly { readonly endpoint: string; readonly entries: number }[];
  readonly findings: readonly string[];
}

const at = (host: HostName, family: Family, port = 8080) => hostPort(HOSTS[host][family], port);
const textOf = ({ address, port }: Destination, family: Family) => hostPort(address[family], port);

describeNode("explain", ALWAYS_THERE, (node, { backend }) => {
  const explain = async (destination: string, family: Family): Promise<Explained> =>
    (await node().agent.explain(node().manifest, textOf(readDestination(destination), family))) as Explained;

  it("finds in the kernel what the cluster says: ClusterIPs, node ports, session affinity, refusals", async () => {
    await node().program(["web", "np", "np-local", "sticky", "empty"].map(serviceNamed));
    for (const family of FAMILIES) {
      const all = [at("a1", family), at("a2", family), at("b1", family)].sort();
      const ofCluster = await explain("web cluster http", family);
      expect(ofCluster).toMatchObject({
        owner: { service: "default/web", kind: "ClusterIP" },
        kernel: { endpoints: all },
        connections: [],
        findings: [],
      });
      expect(ofCluster.endpoints.map(({ endpoint, isIn }) => [endpoint, isIn])).toEqual(
        all.map((endpoint) => [endpoint, true]),
      );
      expect(await explain("np node http", family)).toMatchObject({
        owner: { service: "default/np", kind: "node port" },
        kernel: { endpoints: all },
        findings: [],
      });
      const local = await explain("np-local node http", family);
      expect(local.trace.endpoints).toEqual([at("a1", family)]);
      expect(local.findings).toEqual([]);
      expect(local.endpoints.find(({ endpoint }) => endpoint === at("b1", family))).toMatchObject({
        isIn: false,
        why: "the traffic policy is Local and it is on node-b, not on node-a",
      });
      const remembered = await explain("sticky cluster http", family);
      expect(remembered.kernel.endpoints).toEqual([...remembered.trace.endpoints].sort());
      expect(remembered.findings).toEqual([]);
      expect(await explain("empty cluster http", family)).toMatchObject({
        trace: { verdict: "reject" },
        kernel: { endpoints: [] },
        findings: [],
      });
    }
  });

  it("tells what was counted and who is connected, also to an endpoint that has gone", async () => {
    await node().program([serviceWith("web", ["a1"])]);
    for (const family of FAMILIES) {
      const before = (await explain("web cluster http", family)).kernel.connections;
      const held = await Promise.all([1, 2].map(() => node().hold("pod", "web cluster http", family)));
      for (const { first } of held) expect(first).toMatchObject({ kind: "answered" });
      const seen = await eventually(
        () => explain("web cluster http", family),
        ({ connections }) => connections.length > 0,
        "the connections to be listed",
      );
      expect(seen.connections).toEqual([{ endpoint: at("a1", family), entries: 2 }]);
      expect(seen.findings).toEqual([]);
      expect(seen.kernel.connections).toBe((before ?? 0) + 2);
      await node().program([serviceWith("web", ["b1"])]);
      expect(await explain("web cluster http", family)).toMatchObject({
        kernel: { endpoints: [at("b1", family)] },
        findings: [`2 connection(s) to ${at("a1", family)}: such connections go on, new ones go elsewhere.`],
      });
      for (const one of held) one.close();
      await node().program([serviceWith("web", ["a1"])]);
    }
  });

  it("says where the kernel still leads though nothing should go there", async () => {
    const extra = (family: Family, ...hosts: readonly HostName[]): string =>
      `The kernel still leads to ${hosts
        .map((host) => at(host, family))
        .sort()
        .join(
          ", ",
        )}, where nothing should go any more: no agent runs, it is behind, or its last transaction was refused.`;
    await node().program(["web", "np", "np-local"].map((name) => serviceWith(name, ["a1", "b1"])));
    await node().write(["web", "np", "np-local"].map((name) => serviceWith(name, ["a1"])));
    for (const family of FAMILIES) {
      for (const destination of ["web cluster http", "np node http"])
        expect((await explain(destination, family)).findings, destination).toEqual([extra(family, "b1")]);
      // From outside iptables goes by the chain of this node's endpoints alone.
      const local = await explain("np-local node http", family);
      expect(local.findings).toEqual(backend === "nftables" ? [extra(family, "b1")] : []);
    }
    await node().write(["web", "np"].map((name) => serviceWith(name, [])));
    for (const family of FAMILIES)
      for (const destination of ["web cluster http", "np node http"])
        expect((await explain(destination, family)).findings, destination).toEqual([
          extra(family, "a1", "b1"),
        ]);
  });

  if (backend === "nftables")
    it("knows a ClusterIP by its undefined ports, too", async () => {
      await node().program([serviceWith("web", ["a1"])]);
      for (const family of FAMILIES) {
        const { address } = readDestination("web cluster http");
        const asked = async () =>
          (await node().agent.explain(node().manifest, hostPort(address[family], 9))) as Explained;
        expect(await asked()).toMatchObject({
          trace: { verdict: "reject" },
          kernel: { lines: [`@cluster-ips ${address[family]}`] },
          findings: [],
        });
        await node().lab.namespaces.must("node-a", "nft", ["flush", "ruleset"]);
        expect((await asked()).kernel.lines).toEqual([]);
        await node().program([serviceWith("web", ["a1"])]);
      }
    });

  it("says what the kernel lacks, and whose a destination is not", async () => {
    await node().program([serviceWith("web", ["a1"])]);
    await node().write([serviceWith("web", ["a1", "b1"])]);
    for (const family of FAMILIES) {
      expect((await explain("web cluster http", family)).findings).toEqual([
        `The kernel lacks ${at("b1", family)}: the agent is behind, or its last transaction was refused.`,
      ]);
      expect((await explain("single cluster http", family)).findings).toEqual([
        `No Service of the cluster has ${textOf(readDestination("single cluster http"), family)}/tcp.`,
      ]);
    }
    await node().agent.agent("--cleanup");
    for (const family of FAMILIES) {
      expect((await explain("web cluster http", family)).findings).toEqual([
        "The kernel holds nothing for it: no agent has programmed this state (is it running?).",
      ]);
    }
  });
});
