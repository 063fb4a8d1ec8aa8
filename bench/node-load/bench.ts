/**
 * Programming an empty node: from the start of the process until the kernel has the rules, the kernel memory that they take,
 * and new connections through them to the last Service; beside rule sets of kube-proxy's shape on the same kernel in the same
 * run. Needs root, like the agent.
 */
import { Lab } from "../../tests/kernel/lab.ts";
import { Prober } from "../../tests/kernel/prober.ts";
import type { Bench, BenchContext } from "../bench.ts";
import { bulkServices, REAL_ENDPOINT, SERVICE_PORT, TARGET_PORT } from "../node/cluster.ts";
import { prepareMachine, versions } from "../node/machine.ts";
import { clear, LEAST, type Loaded, load, RULES, SUBJECTS, type Subject } from "../node/subjects.ts";
import { interleave, median } from "../statistics.ts";

interface Step {
  readonly subject: Subject;
  readonly services: number;
  readonly endpointsEach: number;
}

const SIZES: readonly Omit<Step, "subject">[] = [
  { services: 1_000, endpointsEach: 3 },
  { services: 10_000, endpointsEach: 3 },
];
const LARGEST = { services: 50_000, endpointsEach: 2 } as const;
/** Takes time with the square of the Services, minutes at 10 000: measured at this size, and at 10 000 only if asked for. */
const SLOW: Subject = "kube-proxy's shape, nftables";
const SLOW_SIZE = { services: 3_000, endpointsEach: 3 } as const;

/** Connections through the rules and past them in turns, so that what else the machine does falls on both alike. */
const TURNS = 6;
const CONNECTIONS_A_TURN = 4_000;

interface StepResult extends Loaded {
  /** Connections a second beside those that are made directly to a pod of a node without rules, in the same moments. */
  readonly connectionsOfDirect: number;
}

export const bench: Bench = {
  title: "a node's Services loaded, and connections through them, beside kube-proxy's shapes",
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
      needsFull: true,
    },
    {
      what: "nftables, kernel memory at 10 000 × 3, in MiB",
      measure: "nftablesKernelMiB",
      bound: { atMost: 5 },
    },
    {
      what: "nftables, connections a second to the last of 10 000 beside direct ones",
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
  ],
  async run(context) {
    await prepareMachine();
    return { ...(await measure(context)), versions: versions() };
  },
};

function stepsOf(isFull: boolean): readonly Step[] {
  return [
    ...SIZES.flatMap((size) =>
      SUBJECTS.filter((subject) => subject !== SLOW || size.services < SLOW_SIZE.services || isFull).map(
        (subject) => ({ subject, ...size }),
      ),
    ),
    { subject: SLOW, ...SLOW_SIZE },
    { subject: RULES, services: 10_000, endpointsEach: 3 },
    { subject: LEAST, services: 10_000, endpointsEach: 3 },
    { subject: "fairlead nftables", ...LARGEST },
    { subject: "fairlead iptables (legacy)", ...LARGEST },
  ];
}

const keyOf = ({ subject, services }: Pick<Step, "subject" | "services">) => `${subject}, ${services}`;

/** Every subject at every size: loaded into an empty node, connected through, and cleared. */
async function measure({ rounds, isFull, note }: BenchContext) {
  const steps = stepsOf(isFull);
  const lab = await Lab.build({ label: "bench", podNetwork: "routed" });
  const bare = await Lab.build({ label: "bare", podNetwork: "routed" });
  // Whoever answers must not be whoever asks: the two have a core each.
  const client = await Prober.start();
  try {
    const connectionsPerSecond = async (from: Lab, address: string, port: number): Promise<number> => {
      const load = { concurrency: 16, count: CONNECTIONS_A_TURN, timeoutMs: 5_000 };
      const netns = from.netns("pod");
      const { answered, micros } = await client.load({ netns, protocol: "tcp", address, port, ...load }).done;
      if (answered < CONNECTIONS_A_TURN)
        throw new Error(`${CONNECTIONS_A_TURN - answered} connections to ${address} failed`);
      return answered / (micros / 1e6);
    };
    const connectionsOfDirect = async (clusterIP: string): Promise<number> => {
      const ratios: number[] = [];
      for (let turn = 0; turn < TURNS; turn++) {
        const direct = await connectionsPerSecond(bare, REAL_ENDPOINT, TARGET_PORT);
        ratios.push((await connectionsPerSecond(lab, clusterIP, SERVICE_PORT)) / direct);
      }
      return median(ratios);
    };
    const results = await interleave(
      steps.map(keyOf),
      rounds,
      async (key, round): Promise<StepResult | undefined> => {
        const step = steps.find((candidate) => keyOf(candidate) === key);
        if (step === undefined) throw new Error(`no step ${key}`);
        // Minutes are not spent on more certainty.
        if (step.subject === SLOW && step.services > SLOW_SIZE.services && round > 0) return undefined;
        note(`round ${round + 1} of ${rounds}: ${key}`);
        const services = bulkServices(step.services, step.endpointsEach);
        try {
          const loaded = await load(lab, step.subject, services);
          return {
            ...loaded,
            connectionsOfDirect: await connectionsOfDirect(services.at(-1)?.clusterIP ?? ""),
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
    const kernelMiB = (subject: Subject, services: number) =>
      of(subject, services, (result) => result.kernelMiB ?? Number.NaN);
    const connections = (subject: Subject, services: number) =>
      of(subject, services, (result) => result.connectionsOfDirect);
    const flat = (subject: Subject) => connections(subject, LARGEST.services) / connections(subject, 1_000);
    return {
      table: [
        ["", "services", "endpoints each", "load, s", "kernel, MiB", "connections/s of direct"],
        ...steps.map(({ subject, services, endpointsEach }) => [
          subject,
          String(services),
          String(endpointsEach),
          seconds(subject, services).toFixed(2),
          kernelMiB(subject, services).toFixed(1),
          connections(subject, services).toFixed(2),
        ]),
      ],
      measures: {
        nftablesLoad10000Seconds: seconds("fairlead nftables", 10_000),
        nftablesLoad50000Seconds: seconds("fairlead nftables", LARGEST.services),
        ...(isFull && {
          nftablesTimesFaster: seconds(SLOW, 10_000) / seconds("fairlead nftables", 10_000),
          nftablesRulesTimesFaster: seconds(SLOW, 10_000) / seconds(RULES, 10_000),
        }),
        nftablesKernelMiB: kernelMiB("fairlead nftables", 10_000),
        nftablesConnections: connections("fairlead nftables", 10_000),
        leastConnections: connections(LEAST, 10_000),
        legacyConnections: connections("fairlead iptables (legacy)", 10_000),
        iptablesNftConnections: connections("fairlead iptables (nft)", 10_000),
        nftablesFlat: flat("fairlead nftables"),
        legacyFlat: flat("fairlead iptables (legacy)"),
      },
    };
  } finally {
    client.stop();
    await Promise.all([lab.remove(), bare.remove()]);
  }
}
