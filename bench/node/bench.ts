/**
 * Programming a node: cold load, one endpoint changed, new connections, memory; beside rule sets of kube-proxy's shape on
 * the same kernel in the same run. Needs root, like the agent.
 */
import { execFileSync } from "node:child_process";
import { missingForKernelTests } from "../../setup/kernel-requirements.mjs";
import { Lab } from "../../tests/kernel/lab.ts";
import { Prober } from "../../tests/kernel/prober.ts";
import type { Bench, BenchContext } from "../bench.ts";
import { interleave, median, medianRatio } from "../statistics.ts";
import { type Changeable, ChangingAgent, type Peer, startPeer } from "./change.ts";
import { bulkServices, REAL_ENDPOINT, SERVICE_PORT, TARGET_PORT } from "./cluster.ts";
import { clear, type Loaded, load, SUBJECTS, type Subject } from "./subjects.ts";

interface Step {
  readonly subject: Subject;
  readonly services: number;
  readonly endpointsEach: number;
}

const SIZES: readonly Omit<Step, "subject">[] = [
  { services: 1_000, endpointsEach: 3 },
  { services: 5_000, endpointsEach: 3 },
  { services: 10_000, endpointsEach: 3 },
];
const LARGEST = { services: 50_000, endpointsEach: 2 } as const;
/** Takes minutes where the others take seconds, so it is loaded in the first round only. */
const SLOW = { subject: "kube-proxy's shape, nftables", services: 10_000 } as const;

const STEPS: readonly Step[] = [
  ...SIZES.flatMap((size) => SUBJECTS.map((subject) => ({ subject, ...size }))),
  { subject: "fairlead nftables", ...LARGEST },
  { subject: "fairlead iptables (legacy)", ...LARGEST },
];
const keyOf = ({ subject, services }: Pick<Step, "subject" | "services">) => `${subject}, ${services}`;

const CONNECTIONS = 20_000;
const CHANGES_A_ROUND = { nftables: 50, iptables: 5 } as const;

interface StepResult extends Loaded {
  readonly connectionsPerSecond: number;
}

export const bench: Bench = {
  title: "a node's Services: cold load, one change, new connections and memory beside kube-proxy's shapes",
  goals: [
    {
      what: "nftables, 10 000 × 3 loaded, in seconds",
      measure: "nftablesLoad10000Seconds",
      bound: { atMost: 1 },
    },
    {
      what: "nftables, 50 000 × 2 loaded, in seconds",
      measure: "nftablesLoad50000Seconds",
      bound: { atMost: 3 },
    },
    {
      what: "times faster than kube-proxy's nftables shape at 10 000 × 3",
      measure: "nftablesTimesFaster",
      bound: { atLeast: 100 },
    },
    {
      what: "nftables, kernel memory at 10 000 × 3, in MiB",
      measure: "nftablesKernelMiB",
      bound: { atMost: 5 },
    },
    {
      what: "nftables, one endpoint changed at 50 000, p99 in milliseconds",
      measure: "nftablesChangeP99Milliseconds",
      bound: { atMost: 30 },
    },
    { what: "nftables, elements of one change", measure: "nftablesChangeElements", bound: { atMost: 6 } },
    {
      what: "iptables (legacy), one endpoint changed at 5 000 × 3 beside the least possible",
      measure: "legacyChangeOfLeast",
      bound: { atMost: 1.2 },
    },
    {
      what: "iptables (nft), one endpoint changed at 5 000 × 3 beside the least possible",
      measure: "iptablesNftChangeOfLeast",
      bound: { atMost: 1.2 },
    },
    {
      what: "nftables, connections a second to the last of 10 000 beside no rules",
      measure: "nftablesConnections",
      bound: { atLeast: 0.85 },
    },
    { what: "iptables (legacy), the same", measure: "legacyConnections", bound: { atLeast: 0.7 } },
    { what: "iptables (nft), the same", measure: "iptablesNftConnections", bound: { atLeast: 0.7 } },
    {
      what: "nftables, connections at 50 000 beside at 1 000",
      measure: "nftablesFlat",
      bound: { atLeast: 0.93 },
    },
    {
      what: "iptables (legacy), connections at 50 000 beside at 1 000",
      measure: "legacyFlat",
      bound: { atLeast: 0.85 },
    },
    {
      what: "resident memory of the agent at 50 000 × 2, in MiB",
      measure: "agentResidentMiB",
      bound: { atMost: 200 },
    },
  ],
  async run(context) {
    const missing = missingForKernelTests();
    if (missing !== undefined) throw new Error(`This benchmark ${missing}.`);
    const loads = await measureLoads(context);
    const changes = await measureChanges(context);
    return {
      table: [...loads.table, [""], ...changes.table],
      measures: { ...loads.measures, ...changes.measures },
      versions: versions(),
    };
  },
};

/** Every subject at every size: loaded into an empty node, connected through, and cleared. */
async function measureLoads({ rounds, note }: BenchContext) {
  const lab = await Lab.build({ label: "bench", podNetwork: "routed" });
  // Whoever answers must not be whoever asks: the two have a core each.
  const client = await Prober.start();
  try {
    const connectionsPerSecond = async (address: string, port: number): Promise<number> => {
      const load = { concurrency: 16, count: CONNECTIONS, timeoutMs: 5_000 };
      const { answered, micros } = await client.load({
        netns: lab.netns("pod"),
        protocol: "tcp",
        address,
        port,
        ...load,
      }).done;
      if (answered < CONNECTIONS)
        throw new Error(`${CONNECTIONS - answered} of ${CONNECTIONS} connections to ${address} failed`);
      return answered / (micros / 1e6);
    };
    const direct: number[] = [];
    const results = await interleave(
      STEPS.map(keyOf),
      rounds,
      async (key, round): Promise<StepResult | undefined> => {
        const step = STEPS.find((candidate) => keyOf(candidate) === key);
        if (step === undefined) throw new Error(`no step ${key}`);
        if (key === keyOf(SLOW) && round > 0) return undefined;
        if (direct.length <= round) direct.push(await connectionsPerSecond(REAL_ENDPOINT, TARGET_PORT));
        note(`round ${round + 1} of ${rounds}: ${key}`);
        const services = bulkServices(step.services, step.endpointsEach);
        try {
          const loaded = await load(lab, step.subject, services);
          return {
            ...loaded,
            connectionsPerSecond: await connectionsPerSecond(services.at(-1)?.clusterIP ?? "", SERVICE_PORT),
          };
        } finally {
          await clear(lab);
        }
      },
    );

    const of = (subject: Subject, services: number, value: (result: StepResult) => number): number =>
      median(
        (results[keyOf({ subject, services })] ?? []).flatMap((result) =>
          result === undefined ? [] : [value(result)],
        ),
      );
    const seconds = (subject: Subject, services: number) =>
      of(subject, services, (result) => result.milliseconds / 1000);
    const kernel = (subject: Subject, services: number) =>
      of(subject, services, (result) => result.kernelMiB ?? Number.NaN);
    const connections = (subject: Subject, services: number, base: readonly number[] = direct) =>
      medianRatio(
        (results[keyOf({ subject, services })] ?? [])
          .map((result) => result?.connectionsPerSecond ?? Number.NaN)
          .filter((value) => !Number.isNaN(value)),
        base,
      );
    const flat = (subject: Subject) =>
      of(subject, LARGEST.services, (result) => result.connectionsPerSecond) /
      of(subject, 1_000, (result) => result.connectionsPerSecond);

    return {
      table: [
        ["", "services", "load, s", "kernel, MiB", "connections/s of no rules"],
        ...STEPS.map(({ subject, services }) => [
          subject,
          String(services),
          seconds(subject, services).toFixed(2),
          kernel(subject, services).toFixed(1),
          connections(subject, services).toFixed(2),
        ]),
        ["no rules, connections/s", "", "", "", median(direct).toFixed(0)],
      ],
      measures: {
        nftablesLoad10000Seconds: seconds("fairlead nftables", 10_000),
        nftablesLoad50000Seconds: seconds("fairlead nftables", LARGEST.services),
        nftablesTimesFaster:
          seconds(SLOW.subject, SLOW.services) / seconds("fairlead nftables", SLOW.services),
        nftablesKernelMiB: kernel("fairlead nftables", 10_000),
        nftablesConnections: connections("fairlead nftables", 10_000),
        legacyConnections: connections("fairlead iptables (legacy)", 10_000),
        iptablesNftConnections: connections("fairlead iptables (nft)", 10_000),
        nftablesFlat: flat("fairlead nftables"),
        legacyFlat: flat("fairlead iptables (legacy)"),
      },
    };
  } finally {
    client.stop();
    await lab.remove();
  }
}

/** Nodes that are loaded all the time, each changed in its turn. */
async function measureChanges({ rounds, note }: BenchContext) {
  const [services, endpointsEach] = [5_000, 3];
  const nftables = await ChangingAgent.start(
    { backend: "nftables" },
    LARGEST.services,
    LARGEST.endpointsEach,
  );
  const subjects = new Map<string, Changeable>([["fairlead nftables, 50 000", nftables]]);
  try {
    for (const variant of ["nft", "legacy"] as const) {
      note(`loading ${services} Services for iptables (${variant})`);
      const agent = await ChangingAgent.start({ backend: "iptables", variant }, services, endpointsEach);
      subjects.set(`fairlead iptables (${variant})`, agent);
    }
    for (const peer of PEERS) {
      note(`loading ${services} Services for ${peer}`);
      subjects.set(peer, await startPeer(peer, services, endpointsEach));
    }
    const residentMiB = nftables.residentMiB();
    const times = await interleave([...subjects.keys()], rounds, async (name, round) => {
      note(`round ${round + 1} of ${rounds}: changes, ${name}`);
      const count = name.includes("nftables") ? CHANGES_A_ROUND.nftables : CHANGES_A_ROUND.iptables;
      const taken: number[] = [];
      for (let change = 0; change < count; change++)
        taken.push((await subjects.get(name)?.change()) ?? Number.NaN);
      return taken;
    });
    const medians = (name: string) => (times[name] ?? []).map(median);
    const all = (name: string) => (times[name] ?? []).flat();
    return {
      table: [
        ["one endpoint changed", "median, ms", "p99, ms"],
        ...[...subjects.keys()].map((name) => [
          name,
          median(all(name)).toFixed(1),
          percentile(all(name), 0.99).toFixed(1),
        ]),
      ],
      measures: {
        nftablesChangeMilliseconds: median(all("fairlead nftables, 50 000")),
        nftablesChangeP99Milliseconds: percentile(all("fairlead nftables, 50 000"), 0.99),
        nftablesChangeElements: await nftables.elementsOfOneChange(),
        legacyChangeOfLeast: medianRatio(
          medians("fairlead iptables (legacy)"),
          medians("least possible, iptables-legacy"),
        ),
        iptablesNftChangeOfLeast: medianRatio(
          medians("fairlead iptables (nft)"),
          medians("least possible, iptables-nft"),
        ),
        agentResidentMiB: Math.max(residentMiB, nftables.residentMiB()),
      },
    };
  } finally {
    for (const subject of subjects.values()) await subject.stop();
  }
}

const PEERS: readonly Peer[] = [
  "kube-proxy's shape, nftables",
  "kube-proxy's shape, iptables-nft",
  "kube-proxy's shape, iptables-legacy",
  "least possible, iptables-nft",
  "least possible, iptables-legacy",
];

/** The value that a share of all is not above. */
function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

function versions(): Readonly<Record<string, string>> {
  const first = (program: string) =>
    execFileSync(program, ["--version"], { encoding: "utf8" }).split("\n")[0] ?? "";
  return { nft: first("nft"), iptables: first("iptables") };
}
