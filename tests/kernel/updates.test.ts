/**
 * Changes while packets flow: what is not concerned does not notice, and what is concerned loses nothing that it need not.
 */
import { expect, it } from "vitest";
import { FAMILIES, HOSTS, hostPort } from "./addresses.ts";
import { PATIENCE } from "./netns.ts";
import { describeNode, type NodeUnderTest, serviceWith } from "./node-under-test.ts";
import type { Held, LoadCount } from "./prober.ts";
import type { EndpointText, TestService } from "./services.ts";

const UPDATES = 200;
/** Held connections say something after so many updates. */
const TALKATIVE = 10;
const CONCERNED: readonly TestService[] = [
  serviceWith("web", ["a1", "b1"]),
  serviceWith("np", ["a1", "b1"]),
  serviceWith("lb", ["a1", "b1"]),
];
/** About a thousand connections a second in all: many for each update, and few enough for the connection table. */
const GENTLY = { concurrency: 2, pauseMs: 8 } as const;

/** The Service that changes with every write tells when it is through, in both families: they may be written one by one. */
async function untilSingle(node: NodeUnderTest, pod: "a1" | "b1"): Promise<void> {
  for (const family of FAMILIES)
    await node.until(hostPort(HOSTS[pod][family], 8080), "pod", "single cluster http", family);
}

/** Everybody who could notice: each protocol, each family, from a pod, from outside and from the node. */
function startLoads(node: NodeUnderTest) {
  const ends = [
    ["pod", "web cluster http"],
    ["client", "np node dns"],
    ["client", "lb vip assoc"],
    ["node-a", "web cluster http"],
  ] as const;
  return FAMILIES.flatMap((family) =>
    ends.map(([from, destination]) => ({
      name: `${family} ${from} → ${destination}`,
      load: node.load(from, destination, { ...GENTLY, family }),
    })),
  );
}

interface Count extends LoadCount {
  readonly name: string;
}

async function endLoads(loads: ReturnType<typeof startLoads>): Promise<readonly Count[]> {
  for (const { load } of loads) load.stop();
  return Promise.all(loads.map(async ({ name, load }) => ({ name, ...(await load.done) })));
}

/** Connections and UDP sockets that stay open. */
function holdMany(node: NodeUnderTest): Promise<readonly Held[]> {
  return Promise.all(
    FAMILIES.flatMap((family) => [
      node.hold("pod", "web cluster http", family),
      node.hold("pod", "web cluster dns", family),
      node.hold("client", "np node http", family),
      node.hold("client", "lb vip http", family),
      node.hold("node-a", "web cluster http", family),
    ]),
  );
}

/** Each is still answered, by whom it was first answered. */
async function expectUnbroken(held: readonly Held[]): Promise<void> {
  const answers = await Promise.all(held.map((connection) => connection.say(5_000 * PATIENCE)));
  expect(answers.map((answer) => answer.kind === "answered" && [answer.endpoint, answer.seen])).toEqual(
    held.map(({ first }) => first.kind === "answered" && [first.endpoint, first.seen]),
  );
}

function close(held: readonly Held[]): void {
  for (const connection of held) connection.close();
}

function expectNothingLost(counts: readonly Count[], endpointsEach: number): void {
  const lost = counts.map(({ name, refused, silent, errors, endpoints }) => {
    return { name, refused, silent, errors, endpoints: endpoints.size };
  });
  const none = { refused: 0, silent: 0, errors: 0, endpoints: endpointsEach };
  expect(lost).toEqual(counts.map(({ name }) => ({ name, ...none })));
  for (const { name, answered } of counts) expect(answered, name).toBeGreaterThan(UPDATES);
}

describeNode("updates under load", ["nftables", "iptables-nft", "iptables-legacy"], (node) => {
  it(`${UPDATES} updates of another Service refuse no connection and break none`, {
    timeout: 300_000,
  }, async () => {
    const other = (endpoint: EndpointText) => serviceWith("single", [endpoint]);
    await node().write([...CONCERNED, other("a1")]);
    node().start();
    await untilSingle(node(), "a1");
    const held = await holdMany(node());
    const loads = startLoads(node());
    for (let update = 1; update <= UPDATES; update++) {
      const isEven = update % 2 === 0;
      await node().write([...CONCERNED, other(isEven ? "a1" : "b1")]);
      await untilSingle(node(), isEven ? "a1" : "b1");
      // A UDP flow that is silent for half a minute is forgotten by the connection table, without any fault of the rules.
      if (update % TALKATIVE === 0) await expectUnbroken(held);
    }
    expectNothingLost(await endLoads(loads), 2);
    await expectUnbroken(held);
    close(held);
  });

  it("endpoints that come and go lose no connection while they serve", { timeout: 180_000 }, async () => {
    // One, two and three endpoints, and others of the same number: every way in which the choice can change.
    const states: readonly (readonly [EndpointText[], string])[] = [
      [["a1"], "1"],
      [["a1", "b1"], "2"],
      [["a1", "b1", "a2"], "3"],
      [["a2", "b2"], "2"],
      [["b2"], "1"],
      [["a1", "a2", "b1", "b2"], "4"],
    ];
    const at = (turn: number) => states[turn % states.length]?.[0] ?? [];
    // The witness tells when a write is through: it changes in the same write.
    const witness = (turn: number) => serviceWith("single", [turn % 2 === 0 ? "a1" : "b1"]);
    const all = (turn: number) => [
      serviceWith("web", at(turn)),
      serviceWith("np", at(turn)),
      serviceWith("lb", at(turn)),
      witness(turn),
    ];
    await node().write(all(0));
    node().start();
    await untilSingle(node(), "a1");
    const held = await holdMany(node());
    const loads = startLoads(node());
    for (let turn = 1; turn <= 36; turn++) {
      await node().write(all(turn));
      await untilSingle(node(), turn % 2 === 0 ? "a1" : "b1");
    }
    expectNothingLost(await endLoads(loads), 4);
    // TCP stays with an endpoint that is no longer one; a UDP flow is given another.
    const isTcp = (_: Held, index: number) => index % 5 !== 1;
    await expectUnbroken(held.filter(isTcp));
    close(held);
  });

  it("a Service without endpoints refuses, and answers as soon as it has one again", async () => {
    for (const family of FAMILIES) {
      const endpoint = family === "ipv4" ? "10.180.0.11:8080" : "[fd00:10:180::11]:8080";
      await node().write([serviceWith("web", ["a1"]), serviceWith("np", ["a1"])]);
      const agent = node().start();
      await node().until(endpoint, "pod", "web cluster http", family);
      await node().write([serviceWith("web", []), serviceWith("np", [])]);
      await node().until("reject", "pod", "web cluster http", family);
      await node().until("reject", "client", "np node http", family);
      await node().write([serviceWith("web", ["a1"])]);
      await node().until(endpoint, "pod", "web cluster http", family);
      await node().until("untouched", "pod", "np cluster http", family);
      await agent.end("SIGTERM");
    }
  });
});
