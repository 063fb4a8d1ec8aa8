/**
 * IPVS on a node that lives: endpoints that leave, hands of others, agents that end and begin, and taking a node over from
 * kube-proxy while it serves. What a packet meets is `vectors.ipvs.test.ts`'s.
 */
import { expect, it } from "vitest";
import { CLUSTER_CIDRS, FAMILIES, type Family, HOSTS, type HostName, hostPort } from "./addresses.ts";
import { AgentRunner } from "./agent.ts";
import { describeChurn } from "./churn.ts";
import { describeCounters } from "./counters.ts";
import { clusterIpOf, serviceNamed, vipOf } from "./destinations.ts";
import { addForeignIpvs, ipvsSnapshot, type RealServer, realServers } from "./ipvs-state.ts";
import { writeKubeProxyIpvs } from "./kube-proxy-ipvs.ts";
import { programAsKubeProxy } from "./kube-proxy-node.ts";
import type { Lab } from "./lab.ts";
import { PATIENCE } from "./netns.ts";
import {
  describeNode,
  describe as describeOutcome,
  eventually,
  type NodeUnderTest,
  PROGRAMMERS,
  serviceWith,
  WITH_DETECTOR,
} from "./node-under-test.ts";
import type { Held } from "./prober.ts";
import { addForeignRules } from "./rules.ts";
import { SERVICES, type TestService } from "./services.ts";
import { describeInVirtualMachine, hasIpvsHere } from "./vm/in-virtual-machine.ts";

const WEB = "172.30.0.10";
const at = (host: "a1" | "a2" | "b1" | "b2", port = 8080, family: Family = "ipv4") =>
  hostPort(HOSTS[host][family], port);

/** A connection to this endpoint; round robin soon has one. */
async function holdTo(
  node: NodeUnderTest,
  endpoint: string,
  from: HostName,
  destination: string,
  family: Family = "ipv4",
): Promise<Held> {
  for (let attempt = 0; attempt < 20; attempt++) {
    const held = await node.hold(from, destination, family);
    if (answerOf(held.first) === endpoint) return held;
    held.close();
  }
  throw new Error(`no connection of ${from} to ${destination} got to ${endpoint}`);
}

const answerOf = (outcome: Held["first"]) => describeOutcome(outcome, { address: "", port: 0 });

async function untilReal(
  node: NodeUnderTest,
  server: string,
  isGood: (reals: readonly RealServer[]) => boolean,
  what: string,
  seconds?: number,
): Promise<readonly RealServer[]> {
  return eventually(
    async () => (await realServers(node.lab)).filter((real) => real.server === server),
    isGood,
    what,
    seconds,
  );
}

function describeIpvs(): void {
  describeNode("IPVS", ["ipvs"], (node) => {
    it("writes nothing when nothing has changed, leaves what is others' alone, and nothing after --cleanup", async () => {
      await addForeignRules(node().lab);
      await addForeignIpvs(node().lab);
      const before = await ipvsSnapshot(node().lab);
      await node().program(SERVICES);
      const during = await ipvsSnapshot(node().lab);
      expect(before.filter((line) => !during.includes(line))).toEqual([]);
      expect(during.length).toBeGreaterThan(before.length + 1_000);
      const again = await node().agent.agent("--once", "--dry-run", "-f", node().manifest, ...WITH_DETECTOR);
      expect({ code: again.code, stdout: again.stdout }).toEqual({ code: 0, stdout: "" });
      expect(again.stderr).toContain("nothing to do");
      expect(await node().agent.agent("--cleanup")).toMatchObject({
        code: 0,
        stderr: expect.stringContaining("Removed: "),
      });
      expect(await ipvsSnapshot(node().lab)).toEqual(before);
      expect(await node().ask("pod", "web cluster http")).toBe("untouched");
      expect((await node().agent.agent("--cleanup")).code, "nothing there is no error").toBe(0);
    });

    it("--init-only sets what IPVS needs, for an agent that may not write settings", async () => {
      const { lab, agent } = node();
      const names = [
        "net/ipv4/vs/conntrack",
        "net/ipv4/vs/expire_nodest_conn",
        "net/ipv4/conf/all/arp_ignore",
      ];
      const settings = async () =>
        (
          await lab.namespaces.must(
            "node-a",
            "cat",
            names.map((name) => `/proc/sys/${name}`),
          )
        ).split("\n");
      for (const name of names) await lab.namespaces.sysctl("node-a", { [name.slice("net/".length)]: "0" });
      expect(await settings()).toEqual(["0", "0", "0", ""]);
      const set = await agent.agent("--init-only", "--node", "node-a", "--ipvs-strict-arp");
      // Limits of connection tracking are the whole machine's, not a network namespace's.
      expect(set).toMatchObject({ code: 0, stderr: expect.not.stringContaining("net.ipv4") });
      expect(await settings()).toEqual(["1", "1", "1", ""]);
    });

    it("an endpoint that leaves keeps its connections, over a restart of the agent too, and then goes", async () => {
      const server = `TCP ${WEB}:80`;
      await node().write([serviceWith("web", ["a1", "b1"])]);
      const first = node().start();
      await node().until(at("a1"), "pod", "web cluster http");
      await node().until(at("b1"), "pod", "web cluster http");
      const held = await holdTo(node(), at("a1"), "pod", "web cluster http");
      const flow = await holdTo(node(), at("a1", 5353), "pod", "web cluster dns");

      await node().write([serviceWith("web", ["b1"])]);
      const leaving = await untilReal(
        node(),
        server,
        (reals) => reals.some(({ target, weight }) => target === at("a1") && weight === 0),
        "weight 0",
      );
      expect(leaving.map(({ target, weight }) => [target, weight]).sort()).toEqual([
        [at("a1"), 0],
        [at("b1"), 1],
      ]);
      expect(answerOf(await held.say(5_000 * PATIENCE)), "it stays with its endpoint").toBe(at("a1"));
      for (let count = 0; count < 6; count++)
        expect(await node().ask("pod", "web cluster http"), "new ones do not").toBe(at("b1"));
      // UDP has no end that could be waited for.
      await untilReal(
        node(),
        `UDP ${WEB}:53`,
        (reals) => reals.map(({ target }) => target).join() === at("b1", 5353),
        "the UDP endpoint to be gone",
      );
      await eventually(
        async () => answerOf(await flow.say(5_000 * PATIENCE)),
        (answer) => answer === at("b1", 5353),
        "the UDP flow to move on",
      );

      await first.end("SIGTERM");
      const second = node().start();
      await node().write([serviceWith("web", ["b1", "b2"])]);
      await node().until(at("b2"), "pod", "web cluster http");
      const waiting = await realServers(node().lab);
      expect(waiting.find(({ server: of, target }) => of === server && target === at("a1"))).toMatchObject({
        weight: 0,
      });
      expect(answerOf(await held.say(5_000 * PATIENCE)), "after the restart").toBe(at("a1"));

      // It comes back while it is waited for, and leaves again.
      await node().write([serviceWith("web", ["a1", "b1", "b2"])]);
      await untilReal(
        node(),
        server,
        (reals) => reals.some(({ target, weight }) => target === at("a1") && weight === 1),
        "weight 1 again",
      );
      await node().write([serviceWith("web", ["b1", "b2"])]);
      await untilReal(
        node(),
        server,
        (reals) => reals.some(({ target, weight }) => target === at("a1") && weight === 0),
        "weight 0 again",
      );
      expect(answerOf(await held.say(5_000 * PATIENCE))).toBe(at("a1"));
      held.close();
      flow.close();
      await untilReal(
        node(),
        server,
        (reals) => !reals.some(({ target }) => target === at("a1")),
        "the endpoint to be removed when its last connection has ended",
        60,
      );
      await second.end("SIGTERM");
    });

    it("a connection that ends while no agent runs is noticed by the next one", async () => {
      await node().write([serviceWith("web", ["a1", "b1"])]);
      const first = node().start();
      await node().until(at("a1"), "pod", "web cluster http");
      const held = await holdTo(node(), at("a1"), "pod", "web cluster http");
      await node().write([serviceWith("web", ["b1"])]);
      const isLeaving = (reals: readonly RealServer[]) =>
        reals.some(({ target, weight }) => target === at("a1") && weight === 0);
      await untilReal(node(), `TCP ${WEB}:80`, isLeaving, "weight 0");
      await first.end("SIGTERM");
      held.close();
      await untilReal(
        node(),
        `TCP ${WEB}:80`,
        (reals) =>
          reals.some(({ target, active, inactive }) => target === at("a1") && active + inactive === 0),
        "the kernel to have forgotten the connection",
        60,
      );
      const second = node().start();
      await untilReal(
        node(),
        `TCP ${WEB}:80`,
        (reals) => reals.length === 1 && reals[0]?.target === at("b1"),
        "the endpoint to be removed",
      );
      await second.end("SIGTERM");
    });

    it("explain tells what the kernel holds; what leaves the cluster has an address of the node", async () => {
      await node().program([serviceWith("web", ["a1", "b1"])]);
      expect(await node().agent.explain(node().manifest, `${WEB}:80`)).toMatchObject({
        owner: { service: "default/web", kind: "ClusterIP" },
        kernel: { endpoints: [at("a1"), at("b1")] },
        findings: [],
      });
      const counted = async () =>
        (await node().agent.explain(node().manifest, `${WEB}:80`)) as { kernel: { connections: number } };
      const before = (await counted()).kernel.connections;
      await node().ask("pod", "web cluster http");
      expect((await counted()).kernel.connections).toBe(before + 1);
      const { lab } = node();
      const outside = FAMILIES.map((family) => clusterIpOf(serviceNamed("single"))[family]);
      const sources = () =>
        Promise.all(
          outside.map(async (address) => {
            const outcome = await lab.probe("pod", "tcp", address, 80);
            return outcome.kind === "answered" ? outcome.seen : outcome.kind;
          }),
        );
      // Nobody's addresses now, so that the world answers.
      expect(await sources()).toEqual(FAMILIES.map((family) => HOSTS.pod[family]));
      await node().program(
        [serviceWith("web", ["a1", "b1"])],
        ...["--non-masquerade-cidrs", `${CLUSTER_CIDRS.ipv4},${CLUSTER_CIDRS.ipv6}`],
      );
      expect(await sources()).toEqual(FAMILIES.map((family) => HOSTS["node-a"][family]));
      await node().program([serviceWith("web", ["a1", "b1"])]);
      expect(await sources(), "without the policy nothing of it is left").toEqual(
        FAMILIES.map((family) => HOSTS.pod[family]),
      );
    });

    it("lets health checks of load balancers in where input is denied by default", async () => {
      const { lab } = node();
      const [checked, other] = [31_999, 31_989];
      for (const port of [checked, other]) await lab.serve("node-a", "tcp", port);
      await node().program([serviceWith("lb-local", ["a1"])]);
      const setPolicy = async (policy: "DROP" | "ACCEPT") => {
        for (const program of ["iptables", "ip6tables"])
          await lab.namespaces.must("node-a", program, ["-w", "-P", "INPUT", policy]);
      };
      await setPolicy("DROP");
      try {
        const vip = vipOf(serviceNamed("lb-local")).ipv4;
        const ask = async (address: string, port: number) =>
          (await lab.probe("client", "tcp", address, port, 1_000)).kind;
        expect(await ask(HOSTS["node-a"].ipv4, checked)).toBe("answered");
        expect(await ask(vip, checked), "at the Service's own address").toBe("answered");
        expect(await ask(HOSTS["node-a"].ipv4, other)).toBe("silent");
      } finally {
        await setPolicy("ACCEPT");
      }
    });

    it("what somebody else removes comes back: servers, endpoints, sets' elements, rules, addresses, the link", async () => {
      await node().agent.agent("--cleanup");
      // Nobody brings back what others had, which one of the harms takes away too.
      await node().lab.namespaces.must("node-a", "ipvsadm", ["-C"]);
      await node().write([
        serviceWith("web", ["a1", "b1"]),
        serviceWith("np", ["a1"]),
        serviceWith("lb-local", ["a1"]),
      ]);
      const agent = node().start();
      await node().until(at("a1"), "client", "np node http");
      await node().until(at("a1", 8080, "ipv6"), "client", "np node http", "ipv6");
      const whole = await ipvsSnapshot(node().lab);
      // The first four each by itself; a look at everything costs an emulated machine seconds, and comes the more seldom.
      for (const harm of [
        `ipvsadm -D -t ${WEB}:80`,
        `ipvsadm -d -t ${WEB}:80 -r ${at("a1")}`,
        `ipset del KUBE-CLUSTER-IP ${WEB},tcp:80`,
        "iptables -t nat -D PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES",
        [
          `ipvsadm -e -t ${WEB}:80 -r ${at("a1")} -m -w 0`,
          `ipvsadm -E -u ${WEB}:53 -s sh`,
          "ipset flush KUBE-6-NODE-PORT-TCP",
          "ip6tables -t nat -F KUBE-NODE-PORT",
          "ipset flush KUBE-HEALTH-CHECK-NODE-PORT",
          "ip6tables -F KUBE-NODE-PORT",
          "iptables -t mangle -F KUBE-PROXY-FIREWALL",
          `ip address delete ${WEB}/32 dev kube-ipvs0`,
        ].join(" && "),
        "ip link delete kube-ipvs0 && ipvsadm -C",
      ]) {
        await node().lab.namespaces.must("node-a", "sh", ["-c", harm]);
        await eventually(
          async () => {
            const now = new Set(await ipvsSnapshot(node().lab));
            return {
              missing: whole.filter((line) => !now.has(line)),
              added: [...now].filter((line) => !whole.includes(line)),
            };
          },
          ({ missing, added }) => missing.length + added.length === 0,
          `all to be as before \`${harm}\``,
          30,
        );
      }
      expect(await node().ask("client", "np node http")).toBe(at("a1"));
      await agent.end("SIGTERM");
    });
  });

  describeNode("taking over from kube-proxy", ["ipvs"], (node) => {
    const SERVED = [
      serviceWith("web", ["a1", "b1"]),
      serviceWith("np", ["a1", "b1"]),
      serviceWith("lb", ["a1", "b1"]),
      serviceWith("ranges", ["a1", "b1"]),
      serviceWith("empty", []),
    ];
    const ENDS = [
      ["pod", "web cluster http"],
      ["client", "np node http"],
      ["client", "lb vip http"],
      ["client", "ranges vip http"],
    ] as const;

    it.each([
      { mode: "IPVS", write: writeKubeProxyIpvs },
      {
        mode: "iptables",
        write: (lab: Lab, services: readonly TestService[]) =>
          programAsKubeProxy(lab, "iptables-nft", services),
      },
    ])(
      "from the $mode mode: keeps every connection, refuses none, and leaves nothing of it",
      async ({ mode, write }) => {
        const { lab } = node();
        // kube-proxy's source ranges in iptables are another matter than how a node changes hands.
        const served =
          mode === "IPVS" ? SERVED : SERVED.filter(({ sourceRanges }) => sourceRanges === undefined);
        const ends = ENDS.filter(([, destination]) =>
          served.some(({ name }) => destination.startsWith(`${name} `)),
        );
        await node().agent.agent("--cleanup");
        const before = await ipvsSnapshot(lab);
        await node().program(served);
        const alone = await ipvsSnapshot(lab);
        await node().agent.agent("--cleanup");
        expect(await ipvsSnapshot(lab)).toEqual(before);

        await write(lab, served);
        const held: Held[] = [];
        for (const family of FAMILIES)
          for (const [from, destination] of ends) held.push(await node().hold(from, destination, family));
        expect(held.map(({ first }) => first.kind)).toEqual(held.map(() => "answered"));
        const loads = ends.map(([from, destination]) =>
          node().load(from, destination, { concurrency: 1, pauseMs: 20, timeoutMs: 10_000 }),
        );
        const agent = node().start();
        // A look at everything takes an emulated machine seconds, which the agent needs for itself at first.
        await eventually(
          async () => agent.output,
          (text) => text.includes("Removed what another proxy had left"),
          "the agent to have removed what it found",
          60,
        );
        const difference = async () => {
          const now = await ipvsSnapshot(lab);
          return {
            left: now.filter((line) => !alone.includes(line)),
            missing: alone.filter((line) => !now.includes(line)),
            agent: agent.output,
          };
        };
        await eventually(
          difference,
          ({ left, missing }) => left.length + missing.length === 0,
          "the node to hold what it holds where no kube-proxy was before",
          60,
        );
        for (const load of loads) load.stop();
        for (const [index, load] of loads.entries()) {
          const { answered, refused, errors, silent } = await load.done;
          expect({ refused, errors, silent }, ends[index]?.join(" → ")).toEqual({
            refused: 0,
            errors: 0,
            silent: 0,
          });
          expect(answered).toBeGreaterThan(10);
        }
        const answers = await Promise.all(held.map((one) => one.say(10_000 * PATIENCE)));
        expect(answers.map(answerOf)).toEqual(held.map(({ first }) => answerOf(first)));
        for (const one of held) one.close();
        expect(await node().ask("pod", "empty cluster http")).toBe("reject");
        await node().write(
          served.map((service) => (service.name === "empty" ? serviceWith("empty", ["a1"]) : service)),
        );
        // A refusal that kube-proxy had written would outlive its reason.
        await node().until(at("a1"), "pod", "empty cluster http");
        await agent.end("SIGTERM");
        await node().agent.agent("--cleanup");
        expect(await ipvsSnapshot(lab)).toEqual(before);
      },
    );

    it("nftables takes over from the IPVS mode: virtual servers stay until the last connection has ended", async () => {
      const { lab } = node();
      await node().agent.agent("--cleanup");
      const before = await ipvsSnapshot(lab);
      await writeKubeProxyIpvs(lab, SERVED);
      const held = await node().hold("pod", "web cluster http");
      const nftables = new AgentRunner(lab, PROGRAMMERS.nftables);
      await node().write(SERVED);
      const agent = nftables.start("-f", node().manifest, ...WITH_DETECTOR);
      await eventually(
        async () => agent.output,
        (text) => text.includes("until the connections through them have ended"),
        "the agent to say that it waits",
        60,
      );
      for (const [from, destination] of ENDS)
        expect([at("a1"), at("b1")], `${from} → ${destination}`).toContain(
          await node().ask(from, destination),
        );
      expect(answerOf(await held.say(10_000 * PATIENCE))).toBe(answerOf(held.first));
      held.close();
      await eventually(
        () => ipvsSnapshot(lab),
        (now) => now.join("\n") === before.join("\n"),
        "nothing of IPVS to be left",
        60,
      );
      expect([at("a1"), at("b1")]).toContain(await node().ask("pod", "web cluster http"));
      await agent.end("SIGTERM");
      expect((await nftables.agent("--cleanup")).code).toBe(0);
      nftables.remove();
    });
  });

  describeCounters("ipvs");

  describeChurn("ipvs", { services: 200, rounds: 40, changesARound: 100 });
}

if (await hasIpvsHere()) describeIpvs();
else await describeInVirtualMachine(import.meta.filename);
