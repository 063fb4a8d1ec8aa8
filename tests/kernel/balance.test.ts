/**
 * Who is chosen: evenly by chance, and the same one again where a Service asks for it.
 */
import { expect, it } from "vitest";
import { FAMILIES, type Family, HOSTS, type HostName, hostPort } from "./addresses.ts";
import { readDestination, serviceNamed } from "./destinations.ts";
import {
  describeNode,
  eventually,
  type NodeUnderTest,
  serviceWith,
  WITH_DETECTOR,
} from "./node-under-test.ts";
import type { EndpointText, TestService } from "./services.ts";

const CONNECTIONS = 3_000;

/** The value that chi-square exceeds once in a million even choices (Wilson and Hilferty's approximation, on the safe side). */
function chiSquareLimit(degrees: number): number {
  const part = 2 / (9 * degrees);
  return degrees * (1 - part + 5.612 * Math.sqrt(part)) ** 3;
}

function chiSquare(counts: readonly number[], total: number, choices: number): number {
  const even = total / choices;
  const absent = (choices - counts.length) * even;
  return counts.reduce((sum, count) => sum + (count - even) ** 2 / even, absent);
}

describeNode("even choice", ["nftables", "iptables-nft", "iptables-legacy"], (node) => {
  const overlapping: TestService = serviceWith("overlapping", ["a1", "b1"]);
  for (const [endpoints, choices] of [
    [["a1", "b1"], 2],
    [["a1", "a2", "b1"], 3],
    [["a1", "a2", "b1", "b2"], 4],
  ] as const satisfies readonly (readonly [readonly EndpointText[], number])[]) {
    it(`over ${choices} endpoints, for each protocol and family`, async () => {
      await node().program([serviceWith("np", endpoints), overlapping]);
      for (const family of FAMILIES) {
        for (const [from, destination] of [
          ["pod", "np cluster http"],
          ["client", "np node dns"],
          ["node-a", "np cluster assoc"],
        ] as const) {
          // A source port of an earlier UDP flow would be answered by whom it was answered then.
          await node().lab.forgetConnections();
          const load = node().load(from, destination, { concurrency: 16, count: CONNECTIONS, family });
          const { answered, endpoints: seen } = await load.done;
          expect({ answered, seen: seen.size }).toEqual({ answered: CONNECTIONS, seen: choices });
          expect(chiSquare([...seen.values()], CONNECTIONS, choices), JSON.stringify([...seen])).toBeLessThan(
            chiSquareLimit(choices - 1),
          );
        }
      }
    });
  }

  it("over ports of one pod as over pods", async () => {
    await node().program([overlapping]);
    const { endpoints } = await node().load("pod", "overlapping cluster http", {
      concurrency: 16,
      count: CONNECTIONS,
    }).done;
    expect(endpoints.size).toBe(3);
    expect(chiSquare([...endpoints.values()], CONNECTIONS, 3)).toBeLessThan(chiSquareLimit(2));
  });
});

/** More sources than the 100 that the `recent` match remembers unless it is told otherwise. */
const SOURCES = 240;

/** Sources in the client's namespace, beside those that the address plan names. */
function source(index: number, family: Family): string {
  return family === "ipv4" ? `203.0.113.${11 + index}` : `fd00:203:0:113::1:${index.toString(16)}`;
}

async function addSources(node: NodeUnderTest): Promise<void> {
  const lines = FAMILIES.flatMap((family) =>
    Array.from({ length: SOURCES }, (_, index) => source(index, family))
      .filter((address) => address !== HOSTS.far[family])
      .map(
        (address) =>
          `address add ${address}/${family === "ipv4" ? 32 : 128} dev eth0${family === "ipv6" ? " nodad" : ""}`,
      ),
  );
  await node.lab.namespaces.ip("client", lines);
  await node.lab.namespaces.ip("node-a", [
    "route replace 203.0.113.0/24 dev eth0",
    "route replace fd00:203:0:113::/64 dev eth0",
  ]);
  // The world answers for every address to which it has no other way.
  await node.lab.namespaces.ip("world", [
    `route replace 203.0.113.0/24 via ${HOSTS["node-a"].ipv4}`,
    `route replace fd00:203:0:113::/64 via ${HOSTS["node-a"].ipv6}`,
  ]);
}

/** The endpoint that each source meets. */
async function choices(
  node: NodeUnderTest,
  destination: string,
  family: Family,
  count: number,
): Promise<readonly string[]> {
  const { protocol, address, port } = readDestination(destination);
  const outcomes = await Promise.all(
    Array.from({ length: count }, (_, index) =>
      node.lab.prober.probe({
        netns: node.lab.netns("client"),
        protocol,
        source: source(index, family),
        address: address[family],
        port,
        timeoutMs: 3_000,
      }),
    ),
  );
  return outcomes.map((outcome) =>
    outcome.kind === "answered" ? hostPort(outcome.endpoint, 0) : outcome.kind,
  );
}

const STICKY_SECONDS = 6;
const sticky = (endpoints: readonly EndpointText[], timeoutSeconds = 600, spec = {}): TestService => ({
  ...serviceNamed("sticky"),
  endpoints,
  spec: { sessionAffinity: "ClientIP", sessionAffinityConfig: { clientIP: { timeoutSeconds } }, ...spec },
});
const ALL_PODS = ["a1", "a2", "b1", "b2"] as const;

describeNode("session affinity", ["nftables", "iptables-nft", "iptables-legacy"], (node) => {
  it("begins with more sources than one", async () => {
    await addSources(node());
  });

  for (const family of FAMILIES) {
    it(`${family}: a source meets the same endpoint by every address of the port, many sources at a time`, async () => {
      await node().program([sticky(ALL_PODS)]);
      const first = await choices(node(), "sticky cluster http", family, SOURCES);
      expect(new Set(first)).toEqual(new Set(ALL_PODS.map((pod) => hostPort(HOSTS[pod][family], 0))));
      expect(await choices(node(), "sticky cluster http", family, SOURCES)).toEqual(first);
      expect(await choices(node(), "sticky node http", family, SOURCES)).toEqual(first);
      // Another port of the Service is another memory.
      expect(await choices(node(), "sticky cluster dns", family, SOURCES)).not.toEqual(first);

      await node().program([sticky(ALL_PODS), serviceWith("web", ["a1"])]);
      expect(await choices(node(), "sticky cluster http", family, SOURCES), "after another change").toEqual(
        first,
      );

      const agent = node().start();
      await eventually(
        async () => agent.output,
        (output) => output.includes("ready\n"),
        "the agent to be ready",
      );
      await agent.end("SIGKILL");
      expect(await choices(node(), "sticky cluster http", family, SOURCES), "after another agent").toEqual(
        first,
      );

      await node().program([sticky(["a1", "a2", "b1"])]);
      const gone = hostPort(HOSTS.b2[family], 0);
      const second = await choices(node(), "sticky cluster http", family, SOURCES);
      expect(second).not.toContain(gone);
      second.forEach((endpoint, index) => {
        if (first[index] !== gone) expect(endpoint).toBe(first[index]);
      });
    });

    it(`${family}: what is remembered is forgotten after the time-out, which every connection begins anew`, async () => {
      await node().program([sticky(ALL_PODS, STICKY_SECONDS)]);
      const count = 24;
      const first = await choices(node(), "sticky cluster http", family, count);
      // Longer in all than the time-out, but never so long between two.
      for (let turn = 0; turn < 4; turn++) {
        await new Promise((resolve) => setTimeout(resolve, (STICKY_SECONDS * 1000) / 3));
        expect(await choices(node(), "sticky cluster http", family, count)).toEqual(first);
      }
      await new Promise((resolve) => setTimeout(resolve, (STICKY_SECONDS + 1) * 1000));
      // The same by chance: once in 4^24.
      expect(await choices(node(), "sticky cluster http", family, count)).not.toEqual(first);
    });

    it(`${family}: a longer time-out does not bring back what was forgotten`, async () => {
      await node().program([sticky(ALL_PODS, STICKY_SECONDS)]);
      const count = 24;
      const first = await choices(node(), "sticky cluster http", family, count);
      await new Promise((resolve) => setTimeout(resolve, (STICKY_SECONDS + 1) * 1000));
      await node().program([sticky(ALL_PODS)]);
      expect(await choices(node(), "sticky cluster http", family, count)).not.toEqual(first);
    });

    it(`${family}: a shorter time-out counts for those who are remembered already`, async () => {
      await node().program([sticky(ALL_PODS)]);
      const count = 24;
      const first = await choices(node(), "sticky cluster http", family, count);
      await node().program([sticky(ALL_PODS, STICKY_SECONDS)]);
      await new Promise((resolve) => setTimeout(resolve, (STICKY_SECONDS + 1) * 1000));
      expect(await choices(node(), "sticky cluster http", family, count)).not.toEqual(first);
    });

    it(`${family}: policy comes before memory`, async () => {
      await node().program([sticky(ALL_PODS)]);
      const first = await choices(node(), "sticky node http", family, 80);
      expect(new Set(first).size).toBe(4);
      await node().program([sticky(ALL_PODS, 600, { externalTrafficPolicy: "Local" })]);
      const local = [hostPort(HOSTS.a1[family], 0), hostPort(HOSTS.a2[family], 0)];
      const second = await choices(node(), "sticky node http", family, 80);
      for (const endpoint of second) expect(local).toContain(endpoint);
      expect(await choices(node(), "sticky node http", family, 80)).toEqual(second);
    });

    const spread = async (endpoints: readonly HostName[], when: string, of = SOURCES): Promise<void> => {
      const met = await choices(node(), "sticky cluster http", family, of);
      expect(new Set(met), when).toEqual(new Set(endpoints.map((pod) => hostPort(HOSTS[pod][family], 0))));
    };

    it(`${family}: who comes after an endpoint or a Service that has gone does not inherit its clients`, async () => {
      await node().program([sticky(["a1"])]);
      await spread(["a1"], "at first");
      await node().program([sticky([])]);
      await node().program([sticky(["a2", "b1", "b2"])]);
      await spread(["a2", "b1", "b2"], "after a moment without endpoints");

      await node().program([sticky(["a1"])]);
      await spread(["a1"], "all at one endpoint");
      await node().program([]);
      await node().program([sticky(["a2", "b1", "b2"])]);
      await spread(["a2", "b1", "b2"], "after a moment without the Service");

      await node().program([sticky(["a1", "a2"])]);
      await node().program([sticky(["a1"])]);
      await spread(["a1"], "one has gone");
      await node().program([]);
      await node().program([{ ...sticky(["a2", "b1"]), spec: {} }]);
      await node().program([sticky(["a2", "b1"])]);
      await spread(["a2", "b1"], "after a while without affinity");
    });

    it(`${family}: while endpoints are replaced one by one, clients of each go to all others`, async () => {
      await node().program([]);
      const agent = node().start();
      await node().write([sticky(["a1", "a2", "b1"]), serviceWith("single", ["b1"])]);
      await node().until(hostPort(HOSTS.b1[family], 8080), "pod", "single cluster http", family);
      const first = await choices(node(), "sticky cluster http", family, SOURCES);
      expect(new Set(first).size).toBe(3);
      const gone = hostPort(HOSTS.b1[family], 0);
      await node().write([sticky(["a1", "a2"]), serviceWith("single", ["a1"])]);
      await node().until(hostPort(HOSTS.a1[family], 8080), "pod", "single cluster http", family);
      await node().write([sticky(["a1", "a2", "b2"]), serviceWith("single", ["a2"])]);
      await node().until(hostPort(HOSTS.a2[family], 8080), "pod", "single cluster http", family);
      const second = await choices(node(), "sticky cluster http", family, SOURCES);
      const moved = second.filter((_, index) => first[index] === gone);
      // All at one of three by chance: once in 3^(a third of the sources).
      expect(new Set(moved).size).toBeGreaterThan(1);
      await agent.end("SIGTERM");
    });
  }
});

const balanced = (balance: string, endpoints: readonly EndpointText[], weights?: string): TestService => ({
  ...serviceWith("np", endpoints),
  annotations: {
    "fairlead.dev/balance": balance,
    ...(weights !== undefined && { "fairlead.dev/weights": weights }),
  },
});

/** The endpoint that each of these source ports meets. */
async function choicesOfPorts(
  node: NodeUnderTest,
  destination: string,
  family: Family,
  ports: readonly number[],
) {
  // A connection that is known goes where it went; only new ones are chosen for.
  await node.lab.forgetConnections();
  const { protocol, address, port } = readDestination(destination);
  const outcomes = await Promise.all(
    ports.map((sourcePort) => node.lab.probe("pod", protocol, address[family], port, 3_000, sourcePort)),
  );
  return outcomes.map((outcome) => (outcome.kind === "answered" ? outcome.endpoint : outcome.kind));
}

describeNode("choice by annotation", ["nftables", "iptables-nft", "iptables-legacy"], (node, { backend }) => {
  const PORTS = Array.from({ length: 200 }, (_, index) => 20_000 + index);

  it("round-robin: one after the other", async () => {
    await node().program([balanced("round-robin", ["a1", "a2", "b1"])]);
    for (const family of FAMILIES) {
      const { endpoints } = await node().load("pod", "np cluster http", {
        concurrency: 1,
        count: 300,
        family,
      }).done;
      expect([...endpoints.values()]).toEqual([100, 100, 100]);
    }
  });

  it("source-hash: a source meets one endpoint, whatever its port", async () => {
    await node().program([balanced("source-hash", ALL_PODS)]);
    await addSources(node());
    // The kernel's match for iptables hashes the first 32 bits of an IPv6 address, so the choice is random there.
    for (const family of backend === "nftables" ? FAMILIES : (["ipv4"] as const)) {
      expect(new Set(await choicesOfPorts(node(), "np cluster dns", family, PORTS)).size).toBe(1);
      const bySource = await choices(node(), "np node http", family, SOURCES);
      expect(new Set(bySource).size).toBe(4);
      expect(await choices(node(), "np node http", family, SOURCES)).toEqual(bySource);
    }
  });

  if (backend === "nftables") {
    it("maglev: a connection has its endpoint, and few change when an endpoint goes", async () => {
      for (const family of FAMILIES) {
        await node().program([balanced("maglev", ALL_PODS)]);
        const before = await choicesOfPorts(node(), "np cluster dns", family, PORTS);
        expect(new Set(before).size).toBe(4);
        expect(await choicesOfPorts(node(), "np cluster dns", family, PORTS)).toEqual(before);
        await node().program([balanced("maglev", ["a1", "a2", "b1"])]);
        const after = await choicesOfPorts(node(), "np cluster dns", family, PORTS);
        const moved = before.filter(
          (endpoint, index) => endpoint !== HOSTS.b2[family] && endpoint !== after[index],
        );
        expect(after).not.toContain(HOSTS.b2[family]);
        // A modulo would move two thirds of those that could stay.
        expect(moved.length).toBeLessThan(PORTS.length / 5);
      }
    });
  } else {
    it("maglev: iptables has no match that hashes ports; it says so and chooses at random", async () => {
      await node().write([balanced("maglev", ALL_PODS)]);
      const { stderr } = await node().agent.program(node().manifest, ...WITH_DETECTOR);
      expect(stderr).toMatch(/Service default\/np .*maglev/);
      for (const family of FAMILIES) {
        const before = await choicesOfPorts(node(), "np cluster dns", family, PORTS);
        expect(new Set(before).size).toBe(4);
        expect(await choicesOfPorts(node(), "np cluster dns", family, PORTS)).not.toEqual(before);
      }
    });
  }

  it("weights: three to one, and none for zero", async () => {
    await node().program([
      balanced("random", ["a1", "b1", "b2"], "node:node-a=3, 10.180.1.12=0, fd00:10:180:1::12=0"),
    ]);
    for (const family of FAMILIES) {
      const { endpoints } = await node().load("pod", "np cluster http", {
        concurrency: 16,
        count: CONNECTIONS,
        family,
      }).done;
      const count = (pod: "a1" | "b1" | "b2") => endpoints.get(hostPort(HOSTS[pod][family], 8080)) ?? 0;
      expect(count("b2")).toBe(0);
      const [wantA, wantB] = [(CONNECTIONS * 3) / 4, CONNECTIONS / 4];
      const deviation = (count("a1") - wantA) ** 2 / wantA + (count("b1") - wantB) ** 2 / wantB;
      expect(deviation, JSON.stringify([...endpoints])).toBeLessThan(chiSquareLimit(1));
    }
  });
});
