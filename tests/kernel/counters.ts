/**
 * What the agent's metrics count: connections by Service port, and refusals by their reason. Known packets are sent, and the
 * numbers must be theirs.
 */
import { expect, it } from "vitest";
import { FAMILIES, type HostName, hostPort, namespaceOf } from "./addresses.ts";
import { serviceNamed } from "./destinations.ts";
import { PATIENCE } from "./netns.ts";
import {
  describeNode,
  eventually,
  type NodeUnderTest,
  type ProgrammerName,
  serviceWith,
} from "./node-under-test.ts";

const SILENT = /^silent$/;

/** Sender, destination, how often, and the words of `ask`. UDP where nobody answers: TCP would ask again and be counted again. */
const SENT = [
  ["pod", "single cluster http", 5, /:8080$/],
  ["client", "np node dns", 3, /:5353$/],
  ["client", "lb vip assoc", 2, /:9000$/],
  ["pod", "empty cluster http", 4, /^reject$/],
  ["client", "np-empty node dns", 2, /^reject$/],
  ["pod", "int-local-remote cluster dns", 3, SILENT],
  ["client", "np-local-remote node dns", 2, SILENT],
  ["far", "ranges vip dns", 4, SILENT],
] as const satisfies readonly (readonly [HostName, string, number, RegExp])[];

/** Which iptables does not refuse. */
const SENT_TO_UNDEFINED_PORT = [
  ["pod", "single cluster udp/81", 3, /^reject$/],
] as const satisfies readonly (readonly [HostName, string, number, RegExp])[];

/** What only nftables knows to refuse. */
const SENT_TO_UNALLOCATED = [
  ["pod", "unallocated cluster udp/53", 2, SILENT],
] as const satisfies readonly (readonly [HostName, string, number, RegExp])[];

async function metrics(node: NodeUnderTest): Promise<ReadonlyMap<string, number>> {
  const url = `http://${hostPort("127.0.0.1", 10_249)}/metrics`;
  const args = ["--silent", "--noproxy", "*", "--max-time", "5", url];
  const text = await node.lab.namespaces.must(namespaceOf("loopback"), "curl", args);
  const lines = text.split("\n").filter((line) => line.startsWith("fairlead_agent_"));
  return new Map(
    lines.map((line) => {
      const end = line.lastIndexOf(" ");
      const [, name = "", labels = ""] =
        /^fairlead_agent_(\w+?)(?:_total)?(?:\{(.*)\})?$/.exec(line.slice(0, end)) ?? [];
      return [`${name} ${labels.split(",").sort().join(",")}`, Number(line.slice(end + 1))];
    }),
  );
}

export function describeCounters(...programmers: readonly ProgrammerName[]): void {
  describeNode("counters", programmers, (node, { backend }) => {
    it("are those of the packets", async () => {
      const names = [
        "single",
        "np",
        "lb",
        "empty",
        "np-empty",
        "int-local-remote",
        "np-local-remote",
        "ranges",
      ];
      await node().write([...names.map(serviceNamed), serviceWith("web", ["a1"])]);
      const agent = node().start("--service-cidr", "172.30.0.0/16,fd00:172:30::/64");
      await eventually(
        async () => agent.output,
        (output) => output.includes("ready\n"),
        "the agent to be ready",
      );
      const sent = [
        ...SENT,
        ...(backend === "iptables" ? [] : SENT_TO_UNDEFINED_PORT),
        ...(backend === "nftables" ? SENT_TO_UNALLOCATED : []),
      ];
      for (const family of FAMILIES) {
        for (const [from, destination, times, answer] of sent) {
          for (let time = 0; time < times; time++) {
            const timeoutMs = answer.source === SILENT.source ? 300 * PATIENCE : undefined;
            expect(await node().ask(from, destination, family, timeoutMs), destination).toMatch(answer);
          }
        }
      }
      const refused = {
        // IPVS refuses them itself, and does not count.
        ...(backend !== "ipvs" && { "no-endpoints": 6 }),
        "no-local-endpoints": 5,
        "source-not-allowed": 4,
        ...(backend !== "iptables" && { "undefined-port": 3 }),
        ...(backend === "nftables" && { unallocated: 2 }),
      };
      const want = ["IPv4", "IPv6"].flatMap((family) => [
        [connections(family, "single", "http", "tcp", "address"), 5],
        [connections(family, "np", "dns", "udp", "node port"), 3],
        [connections(family, "lb", "assoc", "sctp", "address"), 2],
        ...Object.entries(refused).map(([reason, count]) => [
          `refused_connections ip_family="${family}",reason="${reason}"`,
          count,
        ]),
        // From outside, by an external policy Cluster.
        [`masqueraded_connections ip_family="${family}"`, 5],
      ]);
      // Read anew only when an earlier reading is paid for.
      await eventually(
        async () => {
          const seen = await metrics(node());
          return want.map(([name]) => [name, seen.get(String(name))]);
        },
        (seen) => JSON.stringify(seen) === JSON.stringify(want),
        `the counters to be ${JSON.stringify(want)}`,
      );
    });
  });
}

function connections(
  family: string,
  service: string,
  port: string,
  protocol: string,
  through: string,
): string {
  return `service_connections ip_family="${family}",namespace="default",port="${port}",protocol="${protocol}",service="${service}",through="${through}"`;
}
