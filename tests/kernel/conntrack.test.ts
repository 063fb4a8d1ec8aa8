/**
 * UDP has no end: a flow keeps the endpoint that was chosen at its start until somebody deletes its entry. After every
 * change the flows that nobody serves any longer must be gone, and no others.
 */
import { expect, it } from "vitest";
import { FAMILIES, HOSTS, type HostName, hostPort } from "./addresses.ts";
import { clusterIpOf, serviceNamed } from "./destinations.ts";
import { NODE, NODES, writeObjects } from "./manifest.ts";
import { PATIENCE } from "./netns.ts";
import {
  describeNode,
  describe as describeOutcome,
  eventually,
  type NodeUnderTest,
  serviceWith,
  WITH_DETECTOR,
} from "./node-under-test.ts";
import type { Held } from "./prober.ts";

const dns = (host: "a1" | "a2" | "b1" | "b2", family: (typeof FAMILIES)[number]) =>
  hostPort(HOSTS[host][family], 5353);

/** Who answers the next packet of the flow, in the words of `ask`. */
async function nextAnswer(held: Held): Promise<string> {
  return describeOutcome(await held.say(5_000 * PATIENCE), { address: "", port: 0 });
}

/** What each flow is answered by now, beside what it should be: one programming of the node serves for all flows at once. */
async function expectAnswers(
  flows: readonly Flow[],
  want: (family: (typeof FAMILIES)[number]) => string,
  when: string,
): Promise<void> {
  const answers = await Promise.all(
    flows.map(async ({ name, held }) => [name, await nextAnswer(held)] as const),
  );
  expect(answers, when).toEqual(flows.map(({ name, family }) => [name, want(family)]));
}

interface Flow {
  readonly name: string;
  readonly family: (typeof FAMILIES)[number];
  readonly held: Held;
}

/** Opens a flow for each sender, destination and family. */
function open(node: NodeUnderTest, ends: readonly (readonly [HostName, string])[]): Promise<readonly Flow[]> {
  return Promise.all(
    FAMILIES.flatMap((family) =>
      ends.map(async ([from, destination]) => ({
        name: `${family} ${from} → ${destination}`,
        family,
        held: await node.hold(from, destination, family),
      })),
    ),
  );
}

function close(flows: readonly Flow[]): void {
  for (const { held } of flows) held.close();
}

async function untilAnswers(
  flows: readonly Flow[],
  want: (family: (typeof FAMILIES)[number]) => string,
): Promise<void> {
  for (const { name, family, held } of flows) {
    await eventually(
      () => nextAnswer(held),
      (answer) => answer === want(family),
      `${name} to move to ${want(family)}`,
      10,
    );
  }
}

describeNode("UDP flows", ["nftables", "iptables-nft", "iptables-legacy"], (node) => {
  it("a flow leaves an endpoint that is gone, and a Service that comes gets its flows", async () => {
    await node().program([serviceWith("lb", ["a1"])]);
    const flows = await open(node(), [
      ["pod", "lb cluster dns"],
      ["client", "lb node dns"],
      ["client", "lb vip dns"],
      ["client", "lb external dns"],
      ["node-a", "lb cluster dns"],
    ]);
    await expectAnswers(flows, (family) => dns("a1", family), "at first");
    await node().program([serviceWith("lb", ["b1"])]);
    await expectAnswers(flows, (family) => dns("b1", family), "endpoint replaced");
    await node().program([serviceWith("lb", [])]);
    await expectAnswers(flows, () => "reject", "no endpoints");
    await node().program([serviceWith("lb", ["a1"])]);
    await expectAnswers(flows, (family) => dns("a1", family), "from none to one");
    close(flows);
  });

  const untouched = (family: (typeof FAMILIES)[number]) =>
    hostPort(clusterIpOf(serviceNamed("web"))[family], 53);

  it("flows from before the Service, and flows from after its end", async () => {
    await node().program([]);
    const flows = await open(node(), [["pod", "web cluster dns"]]);
    await expectAnswers(flows, untouched, "before");
    await node().program([serviceWith("web", ["a1"])]);
    await expectAnswers(flows, (family) => dns("a1", family), "created");
    await node().program([]);
    await expectAnswers(flows, untouched, "deleted");
    close(flows);
  });

  it("the running agent does the same", async () => {
    await node().write([serviceWith("web", ["a1"])]);
    node().start();
    for (const family of FAMILIES) await node().until(dns("a1", family), "pod", "web cluster dns", family);
    const flows = await open(node(), [["pod", "web cluster dns"]]);
    await node().write([serviceWith("web", ["b1"])]);
    await untilAnswers(flows, (family) => dns("b1", family));
    await node().write([serviceWith("web", [])]);
    await untilAnswers(flows, () => "reject");
    await node().write([serviceWith("web", ["a2"])]);
    await untilAnswers(flows, (family) => dns("a2", family));
    await node().write([]);
    await untilAnswers(flows, untouched);
    close(flows);
  });

  /** A Pod of node-a that has UDP 5300 of the node, and 5301 of its second addresses. */
  const podWithPorts = (host: "a1" | "a2") => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: `dns-${host}`, namespace: "default" },
    spec: {
      nodeName: NODE,
      containers: [
        {
          name: "dns",
          ports: [
            { containerPort: 5353, hostPort: 5300, protocol: "UDP" },
            ...FAMILIES.map((family) => ({
              containerPort: 5353,
              hostPort: 5301,
              hostIP: HOSTS["node-a-second"][family],
              protocol: "UDP",
            })),
          ],
        },
      ],
    },
    status: {
      phase: "Running",
      podIP: HOSTS[host].ipv4,
      podIPs: FAMILIES.map((family) => ({ ip: HOSTS[host][family] })),
    },
  });
  const HOST_PORTS = [
    ["client", "np node udp/5300"],
    ["client", "np second udp/5300"],
    ["client", "np second udp/5301"],
  ] as const satisfies readonly (readonly [HostName, string])[];

  it("a flow to a host port goes with its Pod", async () => {
    const write = (...pods: readonly ("a1" | "a2")[]) =>
      writeObjects(node().manifest, [...NODES, ...pods.map(podWithPorts)]);
    await write("a1");
    node().start("--host-ports");
    for (const family of FAMILIES)
      for (const [from, to] of HOST_PORTS) await node().until(dns("a1", family), from, to, family);
    const flows = await open(node(), HOST_PORTS);
    await expectAnswers(flows, (family) => dns("a1", family), "at first");
    await write("a2");
    await untilAnswers(flows, (family) => dns("a2", family));
    await node().endAgents();
    await write("a1");
    const { code, stderr } = await node().agent.once(node().manifest, ...WITH_DETECTOR, "--host-ports");
    expect(code, stderr).toBe(0);
    await expectAnswers(flows, (family) => dns("a1", family), "programmed once");
    close(flows);
  });

  it("flows to endpoints that terminate but serve stay, as TCP does", async () => {
    await node().program([serviceWith("web", ["a1"])]);
    const udp = await open(node(), [["pod", "web cluster dns"]]);
    const tcp = await open(node(), [["pod", "web cluster http"]]);
    const http = (family: (typeof FAMILIES)[number]) => hostPort(HOSTS.a1[family], 8080);
    await node().program([serviceWith("web", ["a1 terminating", "b1"])]);
    await expectAnswers(udp, (family) => dns("a1", family), "terminating");
    await node().program([serviceWith("web", ["a1 dead", "b1"])]);
    await expectAnswers(udp, (family) => dns("b1", family), "dead");
    await expectAnswers(tcp, http, "TCP");
    await node().program([serviceWith("web", ["b1"])]);
    await expectAnswers(tcp, http, "TCP, gone");
    close([...udp, ...tcp]);
  });

  it("flows that are not ours keep their entries", async () => {
    await node().program([serviceWith("web", ["a1"])]);
    const marked = await Promise.all(
      FAMILIES.flatMap((family) => [
        // A pod's own address, with a port that no Service has.
        node().hold("pod", "b2 direct udp/5353", family, 40_001),
        // Another address with the number of a Service's port.
        node().hold("pod", "unallocated cluster udp/53", family, 40_002),
        // The node itself, with a number that is no node port.
        node().hold("client", "np node udp/7070", family, 40_003),
      ]),
    );
    const before = await Promise.all(
      FAMILIES.map(async (family) => {
        await mark(node(), family);
        return countMarked(node(), family);
      }),
    );
    for (const count of before) expect(count).toBeGreaterThanOrEqual(2);
    await node().program([serviceWith("web", ["b1"])]);
    await node().program([serviceWith("web", [])]);
    await node().program([]);
    expect(await Promise.all(FAMILIES.map((family) => countMarked(node(), family)))).toEqual(before);
    for (const held of marked) held.close();
  });

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
