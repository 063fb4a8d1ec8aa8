/**
 * One endpoint changed on a node that is loaded all the time: for Fairlead from the event of the API server to the first packet
 * that meets the new endpoint, beside the least that any program could write and what kube-proxy would. And what the
 * agent takes of the machine meanwhile. Needs root, like the agent.
 */
import type { Bench, BenchContext } from "../bench.ts";
import { type Changeable, ChangingAgent, type Peer, startPeer } from "../node/change.ts";
import { prepareMachine, versions } from "../node/machine.ts";
import { interleave, median, medianRatio } from "../statistics.ts";

const NFTABLES = { services: 50_000, endpointsEach: 2 } as const;
const IPTABLES = { services: 5_000, endpointsEach: 3 } as const;
const QUIET_MS = 600;
const CHANGES_A_ROUND = { nftables: 50, iptables: 5 } as const;

/** At the size of iptables. */
const PEERS: readonly Peer[] = [
  "kube-proxy's shape, nftables",
  "kube-proxy's shape, iptables-nft",
  "kube-proxy's shape, iptables-legacy",
  "least possible, iptables-nft",
  "least possible, iptables-legacy",
];
/** Takes half a minute to load, and no goal refers to it. */
const SLOW: Peer = "kube-proxy's shape, nftables";

export const bench: Bench = {
  title: "one endpoint changed, from the event to the kernel, and the agent's memory",
  goals: [
    {
      what: "nftables at 50 000 × 2, p99 in milliseconds",
      measure: "nftablesP99Milliseconds",
      bound: { atMost: 30 },
    },
    { what: "nftables at 50 000 × 2, elements", measure: "nftablesElements", bound: { atMost: 6 } },
    {
      what: "iptables (legacy) at 5 000 × 3 beside the least possible",
      measure: "legacyOfLeast",
      bound: { atMost: 1.2 },
    },
    {
      what: "iptables (nft) at 5 000 × 3 beside the least possible",
      measure: "iptablesNftOfLeast",
      bound: { atMost: 1.2 },
    },
    {
      what: "resident memory of the agent at 50 000 × 2, in MiB",
      measure: "agentResidentMiB",
      bound: { atMost: 200 },
    },
  ],
  async run(context) {
    await prepareMachine();
    return { ...(await measure(context)), versions: versions() };
  },
};

async function measure({ rounds, isFull, note }: BenchContext) {
  const subjects = new Map<string, Changeable>();
  try {
    note(`loading ${NFTABLES.services} Services for nftables`);
    const nftables = await ChangingAgent.start(
      { backend: "nftables" },
      NFTABLES.services,
      NFTABLES.endpointsEach,
    );
    subjects.set("fairlead nftables", nftables);
    const { services, endpointsEach } = IPTABLES;
    for (const variant of ["nft", "legacy"] as const) {
      note(`loading ${services} Services for iptables (${variant})`);
      const agent = await ChangingAgent.start({ backend: "iptables", variant }, services, endpointsEach);
      subjects.set(`fairlead iptables (${variant})`, agent);
    }
    for (const peer of PEERS.filter((candidate) => isFull || candidate !== SLOW)) {
      note(`loading ${services} Services for ${peer}`);
      subjects.set(peer, await startPeer(peer, services, endpointsEach));
    }
    const loadedMiB = nftables.residentMiB();
    const times = await interleave([...subjects.keys()], rounds, async (name, round) => {
      note(`round ${round + 1} of ${rounds}: ${name}`);
      const subject = subjects.get(name);
      const count = name === "fairlead nftables" ? CHANGES_A_ROUND.nftables : CHANGES_A_ROUND.iptables;
      const taken: number[] = [];
      for (let change = 0; change < count; change++) {
        // One change by itself: the agent gathers those that follow each other within the time that a write takes, or 50 ms
        // (`agent/pace.ts`).
        await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
        taken.push((await subject?.change()) ?? Number.NaN);
      }
      return taken;
    });
    const medians = (name: string) => (times[name] ?? []).map(median);
    const all = (name: string) => (times[name] ?? []).flat();
    return {
      table: [
        ["one endpoint changed", "services", "median, ms", "p99, ms"],
        ...[...subjects.keys()].map((name) => [
          name,
          String(name === "fairlead nftables" ? NFTABLES.services : services),
          median(all(name)).toFixed(1),
          percentile(all(name), 0.99).toFixed(1),
        ]),
        ["resident memory of the agent, MiB", String(NFTABLES.services), nftables.residentMiB().toFixed(0)],
      ],
      measures: {
        nftablesMilliseconds: median(all("fairlead nftables")),
        nftablesP99Milliseconds: percentile(all("fairlead nftables"), 0.99),
        nftablesElements: await elementsOfOneChange(),
        legacyOfLeast: medianRatio(
          medians("fairlead iptables (legacy)"),
          medians("least possible, iptables-legacy"),
        ),
        iptablesNftOfLeast: medianRatio(
          medians("fairlead iptables (nft)"),
          medians("least possible, iptables-nft"),
        ),
        agentResidentMiB: Math.max(loadedMiB, nftables.residentMiB()),
      },
    };
  } finally {
    for (const subject of subjects.values()) await subject.stop();
  }
}

/** In a small cluster: `nft monitor` first reads all that is there, which takes it minutes at 50 000 Services (nft 1.0.6). */
async function elementsOfOneChange(): Promise<number> {
  const agent = await ChangingAgent.start({ backend: "nftables" }, 100, NFTABLES.endpointsEach);
  try {
    return await agent.elementsOfOneChange();
  } finally {
    await agent.stop();
  }
}

/** The value that a share of all is not above. */
function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}
