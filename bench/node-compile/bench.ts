/**
 * The NAT compiler alone: Services and EndpointSlices into transactions, all of them and after one change, in WASM beside
 * the same calls of the same crate built for this machine.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { bulkClusterIp } from "../../tests/kernel/many-services.ts";
import {
  createNat,
  type Nat,
  type NatEndpointSlice,
  type NatService,
  natModulePath,
} from "../../wasm-nat/nat.ts";
import type { Bench } from "../bench.ts";
import { interleave, median, medianRatio } from "../statistics.ts";
import {
  buildNativeReplay,
  type Cluster,
  callsOfCluster,
  endpointsAfter,
  replayInWasm,
  type Stretch,
  stretchClock,
} from "./replay.ts";

const CLUSTER: Cluster = { services: 10_000, endpointsEach: 10, changes: 200 };

/** Milliseconds: the first two of the processor, a change by the clock. */
interface Times {
  /** Objects handed over. */
  readonly taken: number;
  /** All of them compiled, and every transaction of them written out. */
  readonly compiled: number;
  /** One of them handed over again, compiled and written out; the median. */
  readonly changed: number;
}

type Subject = "WASM, through nat.ts" | "WASM, its calls alone" | "native, the same calls";
const SUBJECTS: readonly Subject[] = [
  "WASM, through nat.ts",
  "WASM, its calls alone",
  "native, the same calls",
];

export const bench: Bench = {
  title: `${CLUSTER.services} Services of ${CLUSTER.endpointsEach} endpoints compiled to nftables, and one change of them`,
  goals: [
    {
      what: "all compiled in WASM, in milliseconds of one processor",
      measure: "compileMilliseconds",
      bound: { atMost: 150 },
    },
    {
      what: "one change in WASM, in milliseconds",
      measure: "changeMilliseconds",
      bound: { atMost: 1 },
    },
    { what: "all compiled, beside native", measure: "compileOfNative", bound: { atMost: 2 } },
    { what: "one change, beside native", measure: "changeOfNative", bound: { atMost: 2 } },
  ],
  async run({ rounds, note }) {
    const calls = callsOfCluster(CLUSTER);
    note("building the crate for this machine");
    const replayNatively = buildNativeReplay(calls);
    const module = await WebAssembly.compile(readFileSync(natModulePath));
    const results = await interleave(SUBJECTS, rounds, async (subject, round): Promise<Times> => {
      note(`round ${round + 1} of ${rounds}: ${subject}`);
      switch (subject) {
        case "WASM, through nat.ts":
          return timesOf(typedStretches(await createNat(module)));
        case "WASM, its calls alone":
          return timesOf(await replayInWasm(module, calls));
        case "native, the same calls":
          return timesOf(replayNatively());
        default:
          return subject satisfies never;
      }
    });
    const each = (subject: Subject, what: keyof Times) => results[subject].map((times) => times[what]);
    const beside = (what: keyof Times) =>
      medianRatio(each("WASM, its calls alone", what), each("native, the same calls", what));
    return {
      table: [
        ["", "objects taken, ms", "all compiled, ms", "one change, ms"],
        ...SUBJECTS.map((subject) => [
          subject,
          median(each(subject, "taken")).toFixed(1),
          median(each(subject, "compiled")).toFixed(1),
          median(each(subject, "changed")).toFixed(3),
        ]),
      ],
      measures: {
        takeMilliseconds: median(each("WASM, through nat.ts", "taken")),
        compileMilliseconds: median(each("WASM, through nat.ts", "compiled")),
        changeMilliseconds: median(each("WASM, through nat.ts", "changed")),
        compileOfNative: beside("compiled"),
        changeOfNative: beside("changed"),
      },
      versions: { rustc: execFileSync("rustc", ["--version"], { encoding: "utf8" }).trim() },
    };
  },
};

function timesOf([taken, compiled, ...changes]: readonly Stretch[]): Times {
  return {
    taken: taken?.processor ?? Number.NaN,
    compiled: compiled?.processor ?? Number.NaN,
    changed: median(changes.map(({ clock }) => clock)),
  };
}

/** The stretches of `callsOfCluster`, through the typed interface. */
function typedStretches(nat: Nat): readonly Stretch[] {
  const stretches: Stretch[] = [];
  const services = Array.from({ length: CLUSTER.services }, (_, index) => service(index));
  const slices = services.map((_, index) => slice(index, 0));
  nat.configure({
    backend: "nftables",
    node: { name: "node-a", addresses: { IPv4: ["192.168.0.2"], IPv6: [] } },
    localDetector: { kind: "cidrs", cidrs: ["10.0.0.0/8"] },
  });
  const timed = (action: () => void) => {
    const end = stretchClock();
    action();
    stretches.push(end());
  };
  const carryOut = () => {
    const written = [...nat.plan().transactions].reduce((sum, { operations }) => sum + operations, 0);
    if (written === 0) throw new Error("there was something to write");
    nat.commit();
  };
  timed(() => nat.apply({ services, endpointSlices: slices }));
  timed(carryOut);
  for (let change = 0; change < CLUSTER.changes; change++) {
    const changed = slice((change * 7) % CLUSTER.services, change + 1);
    timed(() => {
      nat.apply({ endpointSlices: [changed] });
      carryOut();
    });
  }
  return stretches;
}

function service(index: number): NatService {
  return {
    meta: { namespace: "bulk", name: `bulk-${index}`, labels: {}, annotations: {} },
    type: "ClusterIP",
    clusterIPs: [bulkClusterIp(index)],
    ports: [{ name: "http", protocol: "TCP", port: 80 }],
    externalIPs: [],
    loadBalancerSourceRanges: [],
    loadBalancerIngress: [],
    internalTrafficPolicy: "Cluster",
    externalTrafficPolicy: "Cluster",
  };
}

function slice(index: number, changes: number): NatEndpointSlice {
  return {
    meta: { namespace: "bulk", name: `bulk-${index}-1` },
    serviceName: `bulk-${index}`,
    addressType: "IPv4",
    ports: [{ name: "http", protocol: "TCP", port: 8080 }],
    endpoints: endpointsAfter(CLUSTER, index, changes).map((address) => ({
      addresses: [address],
      ready: true,
      serving: true,
      terminating: false,
      nodeName: "node-b",
      hintsForZones: [],
      hintsForNodes: [],
    })),
  };
}
