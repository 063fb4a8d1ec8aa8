/**
 * From the first run to the last: what is written once is not written again, others' rules stay, nothing is left behind, and
 * no moment is wrong for being killed.
 */
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { expect, it } from "vitest";
import { FAMILIES, HOSTS, hostPort } from "./addresses.ts";
import { AgentRunner } from "./agent.ts";
import { clusterIpOf, serviceNamed } from "./destinations.ts";
import { NODES, objectsOf, writeObjects } from "./manifest.ts";
import { manyServices } from "./many-services.ts";
import { PATIENCE } from "./netns.ts";
import {
  ALWAYS_THERE,
  describeNode,
  type NodeUnderTest,
  PROGRAMMERS,
  serviceWith,
} from "./node-under-test.ts";
import { randomNumbers } from "./random.ts";
import { addForeignRules, snapshot, withoutNumbers } from "./rules.ts";
import { SERVICES } from "./services.ts";

/** Without remembered sources, whose entries come and go with the packets. */
const LASTING = SERVICES.filter((service) => service.name !== "sticky");

/** What the kernel reports of nftables, and iptables over it, while `action` runs. */
async function kernelEvents(node: NodeUnderTest, action: () => Promise<unknown>): Promise<readonly string[]> {
  const { namespaces } = node.lab;
  const monitor = namespaces.spawn("node-a", "nft", ["monitor"], { stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  if (monitor.stdout === null) throw new Error("no output of nft monitor");
  const reader = createInterface({ input: monitor.stdout });
  reader.on("line", (line) => lines.push(line));
  const marked = async (name: string) => {
    // Until the monitor listens it misses the mark; so it is set until it is heard.
    while (!lines.some((line) => line.includes(name))) {
      await namespaces.must("node-a", "nft", ["-f", "-"], {
        input: `add table inet ${name}\ndelete table inet ${name}\n`,
      });
      await once(reader, "line", { signal: AbortSignal.timeout(100) }).catch(() => {});
    }
  };
  await marked("mark-begin");
  await action();
  await marked("mark-end");
  monitor.kill("SIGTERM");
  // Every commit is a new generation; empty ones are told by nothing else.
  return lines.filter((line) => !line.includes("mark-") && !line.startsWith("# new generation"));
}

describeNode("lifecycle", ALWAYS_THERE, (node, programmer) => {
  it("writes nothing when nothing has changed", async () => {
    await node().program(LASTING);
    const before = await snapshot(node().lab);
    expect(await kernelEvents(node(), () => node().program(LASTING))).toEqual([]);
    expect(await snapshot(node().lab)).toEqual(before);
    // The agent as it runs on a node begins with the same look.
    expect(
      await kernelEvents(node(), async () => {
        const agent = node().start();
        await node().until("10.180.0.11:8080", "pod", "single cluster http");
        await agent.end("SIGTERM");
      }),
    ).toEqual([]);
  });

  it("--dry-run prints the transaction and writes nothing", async () => {
    const agent = new AgentRunner(node().lab, programmer);
    const manifest = agent.file("dry.json");
    await writeObjects(manifest, [...NODES, ...objectsOf(serviceWith("web", ["b2"]))]);
    const before = await snapshot(node().lab);
    const events = await kernelEvents(node(), async () => {
      const { code, stdout } = await agent.agent("--once", "--dry-run", "-f", manifest);
      expect(code).toBe(0);
      expect(stdout).toContain("10.180.1.12");
    });
    expect(events).toEqual([]);
    expect(await snapshot(node().lab)).toEqual(before);
    agent.remove();
  });

  it("leaves the rules of others alone, and nothing of its own after --cleanup", async () => {
    await node().agent.agent("--cleanup");
    await addForeignRules(node().lab);
    const before = await snapshot(node().lab);
    expect(before.filter((line) => line.toLowerCase().includes("foreign")).length).toBeGreaterThan(30);
    await node().program(LASTING);
    await node().program([serviceWith("web", ["a1"])]);
    const during = await snapshot(node().lab);
    expect(during.length).toBeGreaterThan(before.length);
    expect(before.filter((line) => !during.includes(line))).toEqual([]);
    expect((await node().agent.agent("--cleanup")).code).toBe(0);
    expect(await snapshot(node().lab)).toEqual(before);
    expect((await node().agent.agent("--cleanup")).code, "nothing there is no error").toBe(0);
    expect(await node().ask("pod", "web cluster http")).toBe("untouched");
  });

  it("SIGTERM ends the agent and leaves the rules", async () => {
    await node().write([serviceWith("web", ["a1"])]);
    const agent = node().start();
    await node().until("10.180.0.11:8080", "pod", "web cluster http");
    const before = await snapshot(node().lab);
    await agent.end("SIGTERM");
    expect(await snapshot(node().lab)).toEqual(before);
    expect(await node().ask("pod", "web cluster http")).toBe("10.180.0.11:8080");
  });

  it("keeps the rules when no manifest can be read", async () => {
    await node().program([serviceWith("web", ["a1"])]);
    const before = await snapshot(node().lab);
    const absent = await node().agent.once(node().agent.file("absent.json"));
    expect(absent.code).not.toBe(0);
    expect(absent.stderr).toContain("absent.json");
    await writeFile(node().agent.file("broken.yaml"), "kind: Service\n  metadata: [\n");
    const broken = await node().agent.once(node().agent.file("broken.yaml"));
    expect(broken.code).not.toBe(0);
    expect(broken.stderr).toContain("broken.yaml");
    expect(await snapshot(node().lab)).toEqual(before);
  });

  it("a running agent keeps the rules while its file is broken, and goes on when it is mended", async () => {
    await node().write([serviceWith("web", ["a1"])]);
    node().start();
    await node().until("10.180.0.11:8080", "pod", "web cluster http");
    await writeFile(node().manifest, "{ not json");
    await node().write([serviceWith("web", ["b1"])]);
    await node().until("10.180.1.11:8080", "pod", "web cluster http");
  });

  it("converges after kill -9, whenever it comes, and those whom no change concerns do not notice", {
    timeout: 120_000,
  }, async () => {
    const few = LASTING.flatMap(objectsOf);
    // There in every state.
    const witnesses = ["single", "np"].map(serviceNamed).flatMap(objectsOf);
    const states = [
      [...NODES, ...few],
      [...NODES, ...witnesses, ...manyServices(1_000, 3)],
      [...NODES, ...few, ...manyServices(400, 2)],
      [...NODES, ...witnesses],
    ];
    await node().program(LASTING);
    const held = [
      await node().hold("pod", "single cluster http"),
      await node().hold("client", "np node http", "ipv6"),
      await node().hold("client", "np node dns"),
    ];
    const loads = [
      node().load("pod", "single cluster http", { concurrency: 1, pauseMs: 3 }),
      node().load("client", "np node dns", { concurrency: 1, pauseMs: 3 }),
      node().load("client", "np node http", { concurrency: 1, pauseMs: 3, family: "ipv6" }),
    ];
    const random = randomNumbers(10);
    for (let turn = 0; turn < 10; turn++) {
      await writeObjects(node().manifest, states[turn % states.length] ?? []);
      const agent = node().start();
      // From before the first write to after the last one: starting takes about 300 ms.
      await new Promise((resolve) => setTimeout(resolve, 200 + 70 * turn + 40 * random()));
      await agent.end("SIGKILL");
    }
    await node().program(LASTING);
    for (const load of loads) load.stop();
    for (const load of loads) {
      const { answered, refused, silent, errors } = await load.done;
      expect({ refused, silent, errors }).toEqual({ refused: 0, silent: 0, errors: 0 });
      expect(answered).toBeGreaterThan(100);
    }
    for (const one of held) {
      const { first } = one;
      const now = await one.say(5_000 * PATIENCE);
      expect(now.kind === "answered" && now.endpoint).toBe(first.kind === "answered" && first.endpoint);
      one.close();
    }
    const converged = await snapshot(node().lab);
    expect(await node().ask("pod", "single cluster http")).toBe("10.180.0.11:8080");
    await node().agent.agent("--cleanup");
    await node().program(LASTING);
    expect(withoutNumbers(converged)).toEqual(withoutNumbers(await snapshot(node().lab)));
  });
});

describeNode("a load of many transactions", ["nftables"], (node) => {
  it("arrives whole, also what goes side by side, and a restart has nothing to do", async () => {
    const services = 4_000;
    await writeObjects(node().manifest, [...NODES, ...manyServices(services, 3)]);
    await node().agent.program(node().manifest);
    const table = await node().lab.namespaces.must("node-a", "nft", ["list", "table", "ip", "fairlead"]);
    // Elements of the map of endpoints: their data is an address and a port.
    expect(table.match(/ : 10\.\d+\.\d+\.\d+ \. \d+/g)).toHaveLength(3 * services);
    const { code, stdout, stderr } = await node().agent.agent("--once", "--dry-run", "-f", node().manifest);
    expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
    expect(stderr).toContain("nothing to do");
  });
});

describeNode("Services that come and go among many", ALWAYS_THERE, (node, { backend }) => {
  it("are never there without their endpoints", async () => {
    const many = manyServices(backend === "nftables" ? 4_000 : 600, 3);
    const witnesses = ["single", "web"].map((name) => serviceWith(name, ["a1"])).flatMap(objectsOf);
    await node().agent.agent("--cleanup");
    const loads = FAMILIES.map((family) => ({
      family,
      load: node().load("pod", "single cluster http", { concurrency: 2, pauseMs: 1, family }),
    }));
    for (const objects of [[...many, ...witnesses], []]) {
      await writeObjects(node().manifest, [...NODES, ...objects]);
      await node().agent.program(node().manifest);
    }
    for (const { family, load } of loads) {
      load.stop();
      const { refused, silent, errors, endpoints } = await load.done;
      expect({ refused, silent, errors }).toEqual({ refused: 0, silent: 0, errors: 0 });
      // Before and after, the world answers in the Service's place.
      expect([...endpoints.keys()].sort()).toEqual(
        [hostPort(HOSTS.a1[family], 8080), hostPort(clusterIpOf(serviceNamed("single"))[family], 80)].sort(),
      );
    }
  });
});

for (const [first, second] of [
  ["nftables", "iptables-nft"],
  ["nftables", "iptables-legacy"],
] as const) {
  describeNode(`switching between ${first} and ${second}`, [first], (node) => {
    it("leaves nothing of the other, refuses nothing and breaks nothing", async () => {
      const services = [...LASTING];
      const { lab } = node();
      const agents = {
        [first]: node().agent,
        [second]: new AgentRunner(lab, PROGRAMMERS[second]),
      };
      const alone: Record<string, readonly string[]> = {};
      await node().write(services);
      for (const name of [first, second] as const) {
        await agents[name]?.program(node().manifest);
        alone[name] = await snapshot(lab);
        await agents[name]?.agent("--cleanup");
      }
      await agents[first]?.program(node().manifest);
      const held = await node().hold("pod", "single cluster http");
      const load = node().load("pod", "web cluster http", { concurrency: 3, pauseMs: 2 });
      for (const name of [second, first, second, first] as const) {
        await agents[name]?.program(node().manifest);
        expect(await snapshot(lab), `after switching to ${name}`).toEqual(alone[name]);
      }
      load.stop();
      const { refused, errors, silent } = await load.done;
      expect({ refused, errors, silent }).toEqual({ refused: 0, errors: 0, silent: 0 });
      expect((await held.say(5_000 * PATIENCE)).kind).toBe("answered");
      agents[second]?.remove();
    });
  });
}
