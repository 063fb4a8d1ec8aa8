/**
 * Services that come and go in every order: after each change the node must do what it would do had it been programmed
 * with the present state alone.
 */
import { expect, it } from "vitest";
import { FAMILIES, HOSTS, hostPort } from "./addresses.ts";
import { describeNode, type NodeUnderTest, serviceWith } from "./node-under-test.ts";
import { randomNumbers } from "./random.ts";
import { replay, serveUntouched } from "./replay.ts";
import { SERVICES } from "./services.ts";
import type { Backend, Finding, Vector } from "./table.ts";
import { SCENES } from "./vectors.ts";

const STEPS = 8;
const VECTORS_A_STEP = 150;
/** They share addresses with others, so that their absence is not enough to leave a packet untouched. */
const SHARING = ["ext", "shares", "older", "an-earlier-name-but-younger", "younger-same-cluster-ip"];
const WITNESS = "single";
const ELIGIBLE = SERVICES.filter(
  ({ name }) => !SHARING.includes(name) && name !== WITNESS && name !== "sticky",
);

/** The Service that a vector asks for. */
function serviceOf(vector: Vector): string {
  return / → (\S+) /.exec(vector.name)?.[1] ?? "";
}

const names = new Set(ELIGIBLE.map(({ name }) => name));
// Node ports that ConfigMaps open are not among these Services' own.
const CANDIDATES = (SCENES[0]?.vectors ?? []).filter(
  (vector) => names.has(serviceOf(vector)) && !/ (tcp|udp)\/9\d\d\d$/.test(vector.name),
);

/** The witness changes with every write; its families may be written one by one, and each tells for itself. */
async function untilWritten(node: NodeUnderTest, pod: "a1" | "b1"): Promise<void> {
  for (const family of FAMILIES)
    await node.until(hostPort(HOSTS[pod][family], 8080), "pod", `${WITNESS} cluster http`, family);
}

describeNode("sequences of changes", ["nftables", "iptables-nft"], (node, { backend }) => {
  it(`${STEPS} random states, one after the other`, { timeout: 120_000 }, async () => {
    const random = randomNumbers(20_261_123);
    await serveUntouched(node().lab, CANDIDATES);
    await node().write([serviceWith(WITNESS, ["a1"])]);
    node().start();
    await untilWritten(node(), "a1");
    for (let step = 1; step <= STEPS; step++) {
      const present = new Set(ELIGIBLE.filter(() => random() < 0.5).map(({ name }) => name));
      const pod = step % 2 === 0 ? "a1" : "b1";
      await node().write([...ELIGIBLE.filter(({ name }) => present.has(name)), serviceWith(WITNESS, [pod])]);
      await untilWritten(node(), pod);
      const vectors = CANDIDATES.filter(() => random() < VECTORS_A_STEP / CANDIDATES.length).map((vector) =>
        present.has(serviceOf(vector)) ? vector : { ...vector, want: ABSENT },
      );
      const found = await replay(node().lab, vectors, backend);
      expect(vectors.map(({ name }, index) => [step, name, found[index]])).toEqual(
        vectors.map(({ name, want }) => [step, name, want[backend]]),
      );
    }
  });
});

const ABSENT: Readonly<Record<Backend, readonly Finding[]>> = {
  nftables: ["untouched"],
  iptables: ["untouched"],
  ipvs: ["untouched"],
};
