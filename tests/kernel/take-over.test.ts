/**
 * A node that kube-proxy has programmed, in each of its modes, gets an agent: connections go on, new ones are made at every
 * moment, and in the end there is nothing but the agent's rules and those of others. (Mode IPVS needs a kernel that has it.)
 */
import { describe, expect, it } from "vitest";
import { FAMILIES, HOSTS, hostPort } from "./addresses.ts";
import { type KubeProxyMode, programAsKubeProxy } from "./kube-proxy-node.ts";
import { kubeProxyIptables, kubeProxyNftables, type ProxiedPort } from "./kube-proxy-rules.ts";
import type { Lab } from "./lab.ts";
import { PATIENCE } from "./netns.ts";
import {
  ALWAYS_THERE,
  describeNode,
  eventually,
  type NodeUnderTest,
  serviceWith,
} from "./node-under-test.ts";
import type { Held, Outcome } from "./prober.ts";
import { addForeignRules, addKubeletRules, rulesOfSave, snapshot, withoutNumbers } from "./rules.ts";
import type { TestService } from "./services.ts";

const SERVICES: readonly TestService[] = [
  serviceWith("web", ["a1", "a2", "b1"]),
  serviceWith("single", ["a1"]),
  serviceWith("np", ["a1", "b1"]),
  serviceWith("np-empty", []),
];

const MODES: readonly KubeProxyMode[] = ["iptables-nft", "iptables-legacy", "nftables"];

/** A flow that never pauses for long: says one thing after the other, and remembers who answered. */
class Talk {
  readonly held: Held;
  readonly #answers: Outcome[] = [];
  readonly #ended: Promise<void>;
  #isOver = false;

  constructor(held: Held) {
    this.held = held;
    this.#ended = this.#talk();
    // Whoever ends it is told; a test that ended before has its own complaint.
    this.#ended.catch(() => {});
  }

  async end(): Promise<readonly Outcome[]> {
    this.#isOver = true;
    await this.#ended;
    this.held.close();
    return this.#answers;
  }

  async #talk(): Promise<void> {
    while (!this.#isOver) {
      this.#answers.push(await this.held.say(5_000 * PATIENCE));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

/** Connections and flows that are open all the time, to ClusterIPs and node ports. */
const OPEN = [
  ["pod", "web cluster http"],
  ["pod", "web cluster dns"],
  ["client", "np node http"],
  ["client", "np node dns"],
  ["node-a", "web cluster http"],
] as const;

/** Who dials anew all the time. */
const DIALLED = [
  ["pod", "web cluster http"],
  ["client", "np node http"],
  ["client", "np node dns"],
  ["node-a", "single cluster http"],
  ["a1", "single cluster http"],
] as const;

async function openAll(node: NodeUnderTest): Promise<readonly Talk[]> {
  const ends = FAMILIES.flatMap((family) => OPEN.map(([from, to]) => [from, to, family] as const));
  return Promise.all(ends.map(async ([from, to, family]) => new Talk(await node.hold(from, to, family))));
}

interface Dialled {
  readonly name: string;
  readonly load: ReturnType<NodeUnderTest["load"]>;
}

function dialAll(node: NodeUnderTest): readonly Dialled[] {
  return FAMILIES.flatMap((family) =>
    DIALLED.map(([from, to]) => ({
      name: `${family} ${from} → ${to}`,
      load: node.load(from, to, { concurrency: 1, pauseMs: 4, family }),
    })),
  );
}

/** Ends them: there were some, and each of them was answered. */
async function expectAllAnswered(loads: readonly Dialled[]): Promise<void> {
  for (const { load } of loads) load.stop();
  const counts = await Promise.all(loads.map(async ({ name, load }) => ({ name, ...(await load.done) })));
  expect(counts.map(({ name, refused, silent, errors }) => ({ name, refused, silent, errors }))).toEqual(
    counts.map(({ name }) => ({ name, refused: 0, silent: 0, errors: 0 })),
  );
  for (const { name, answered } of counts) expect(answered, name).toBeGreaterThan(20);
}

/** No proxy's rules, and no connection: what kubelet and others have. */
async function leaveOthersAlone(lab: Lab): Promise<void> {
  await empty(lab);
  await addForeignRules(lab);
  await addKubeletRules(lab);
}

/** Every answer came, from the endpoint that answered first, to the source that asked first. */
async function expectUnbroken(talks: readonly Talk[]): Promise<void> {
  for (const talk of talks) {
    const who = (outcome: Outcome) =>
      outcome.kind === "answered"
        ? `${outcome.endpoint} heard ${outcome.seen}:${outcome.seenPort}`
        : outcome.kind;
    const first = who(talk.held.first);
    expect(first).toContain(" heard ");
    const answers = (await talk.end()).map(who);
    expect(answers.length).toBeGreaterThan(10);
    expect([...new Set(answers)]).toEqual([first]);
  }
}

describeNode("take-over", ALWAYS_THERE, (node) => {
  it.each(MODES)("from kube-proxy in mode %s", { timeout: 120_000 }, async (mode) => {
    const { lab, agent } = node();
    await leaveOthersAlone(lab);
    const others = await snapshot(lab);
    await node().program(SERVICES);
    const alone = withoutNumbers(await snapshot(lab));
    await agent.agent("--cleanup");
    expect(await snapshot(lab)).toEqual(others);

    await programAsKubeProxy(node().lab, mode, SERVICES);
    expect(await node().ask("client", "np-empty node http"), "kube-proxy's refusal").toBe("reject");
    const talks = await openAll(node());
    const loads = dialAll(node());
    const running = node().start();
    await eventually(
      async () => {
        const now = withoutNumbers(await snapshot(lab));
        return {
          left: now.filter((line) => !alone.includes(line)),
          missing: alone.filter((line) => !now.includes(line)),
        };
      },
      ({ left, missing }) => left.length + missing.length === 0,
      "the node to have the agent's rules alone",
      40,
    );
    await expectAllAnswered(loads);
    await expectUnbroken(talks);
    expect(await node().ask("client", "np-empty node http")).toBe("reject");
    await running.end("SIGTERM");
    expect(withoutNumbers(await snapshot(lab))).toEqual(alone);
  });
});

/** Without rules of anybody. */
async function empty(lab: Lab): Promise<void> {
  await lab.namespaces.must("node-a", "nft", ["flush", "ruleset"]);
  for (const program of ["iptables-legacy-restore", "ip6tables-legacy-restore"]) {
    const input = "*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT\n";
    await lab.namespaces.must("node-a", program, [], { input });
  }
  await lab.forgetConnections();
}

/** As the CNI plug-in `portmap` writes it with `externalSetMarkChain`: kube-proxy's mark for what it translates itself. */
const PORT_MAPPING = `*nat
:CNI-DN-abc - [0:0]
-A PREROUTING -p tcp -m addrtype --dst-type LOCAL --dport 8099 -j CNI-DN-abc
-A CNI-DN-abc -p tcp -m tcp --dport 8099 -j KUBE-MARK-MASQ
-A CNI-DN-abc -p tcp -m tcp --dport 8099 -j DNAT --to-destination ${hostPort(HOSTS.a1.ipv4, 8080)}
COMMIT
`;

describeNode("a port mapping that asks kube-proxy for its mark", ALWAYS_THERE, (node, { backend }) => {
  it.each(["iptables-nft", "iptables-legacy"] as const)("stands, and is masqueraded, in %s", async (mode) => {
    const { lab, agent } = node();
    const rules = async (): Promise<readonly string[]> =>
      rulesOfSave(await lab.namespaces.must("node-a", `${mode}-save`, []));
    const mapping = (all: readonly string[]): readonly string[] =>
      all.filter((line) => /CNI-DN|KUBE-MARK-MASQ .*MARK --/.test(line));
    await empty(lab);
    await programAsKubeProxy(lab, mode, SERVICES);
    await lab.namespaces.must("node-a", `${mode}-restore`, ["--noflush"], { input: PORT_MAPPING });
    const before = mapping(await rules());
    expect(before).toHaveLength(5);
    const ask = async (): Promise<string> => {
      const outcome = await lab.probe("client", "tcp", HOSTS["node-a"].ipv4, 8099, 5_000);
      if (outcome.kind !== "answered") return outcome.kind;
      return `${outcome.endpoint} heard ${outcome.seen === HOSTS.client.ipv4 ? "the client" : "the node"}`;
    };
    expect(await ask()).toBe(`${HOSTS.a1.ipv4} heard the node`);
    await node().program(SERVICES);
    await lab.forgetConnections();
    expect(mapping(await rules())).toEqual(before);
    expect(await ask()).toBe(`${HOSTS.a1.ipv4} heard the node`);
    if (backend === "nftables")
      expect((await rules()).join("\n")).not.toMatch(/KUBE-(?:POSTROUTING|SVC|SEP)/);

    // Nobody masquerades then; whose rules they are has them all the same.
    for (const time of ["once", "twice"]) {
      expect(await agent.agent("--cleanup"), time).toMatchObject({ code: 0 });
      expect(mapping(await rules()), time).toEqual(before);
      expect((await rules()).join("\n"), time).not.toMatch(/KUBE-(?:POSTROUTING|SVC|SEP|SERVICES)/);
    }
    await empty(lab);
  });
});

describeNode("the way back", ALWAYS_THERE, (node, { backend }) => {
  /** A kube-proxy of the other modes would write into the chains of our iptables. */
  const modes = backend === "nftables" ? MODES : MODES.filter((mode) => mode === "nftables");

  it.each(modes)("to a kube-proxy in mode %s that serves already", { timeout: 120_000 }, async (mode) => {
    const { lab, agent } = node();
    await leaveOthersAlone(lab);
    await programAsKubeProxy(lab, mode, SERVICES);
    const withKubeProxy = await snapshot(lab);
    await node().program(SERVICES, "--non-masquerade-cidrs", "10.0.0.0/8");
    await programAsKubeProxy(lab, mode, SERVICES);

    const talks = await openAll(node());
    const loads = dialAll(node());
    // Every one of them has come through while both rule sets stood, and does so when one is gone.
    const askAll = async (): Promise<void> => {
      for (const family of FAMILIES)
        for (const [from, to] of DIALLED) expect(await node().ask(from, to, family)).toMatch(/:\d+$/);
    };
    await askAll();
    const cleaned = await agent.agent("--cleanup-own");
    await askAll();
    expect(cleaned).toMatchObject({ code: 0, stdout: "" });
    expect(cleaned.stderr).toMatch(/^fairlead: Removed: [^\n]+\.\n$/);
    await expectAllAnswered(loads);
    await expectUnbroken(talks);
    expect(await node().ask("client", "np-empty node http")).toBe("reject");
    expect(await snapshot(lab)).toEqual(withKubeProxy);
  });

  if (backend === "iptables")
    it("leaves chains that a kube-proxy may have taken over", async () => {
      const { lab, agent } = node();
      await leaveOthersAlone(lab);
      await node().program(SERVICES);
      const programmed = await snapshot(lab);
      const cleaned = await agent.agent("--cleanup-own");
      expect(cleaned).toMatchObject({ code: 0, stdout: "" });
      expect(cleaned.stderr).toMatch(
        /^fairlead: Chains, sets and virtual servers .* --cleanup removes them\.\n$/,
      );
      expect(await snapshot(lab)).toEqual(programmed);
    });
});

/** Names that kube-proxy's own tests hold. */
describe("kube-proxy's rules as they are written here", () => {
  const port = (service: string, name: string, protocol: "tcp" | "udp"): ProxiedPort => ({
    service,
    name,
    protocol,
    clusterIp: "172.30.0.41",
    port: 80,
    endpoints: [{ address: "10.180.0.1", port: 80 }],
  });

  it("iptables", () => {
    const text = kubeProxyIptables([port("ns1/svc1", "p80", "tcp")], { family: "ipv4" });
    expect(text).toContain("-A KUBE-SVC-XPGD46QRK7WJZT7O -j KUBE-SEP-SXIVWICOYRO3J4NJ");
  });

  it("nftables", () => {
    const text = kubeProxyNftables([port("testing/service", "http", "tcp")], { family: "ipv4" });
    expect(text).toContain("add chain ip kube-proxy service-P4ZYZVCF-testing/service/tcp/http");
  });
});
