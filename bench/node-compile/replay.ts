/**
 * Calls of the NAT compiler's boundary, made of the WASM module or of the crate built for this machine: the same bytes
 * for both. The wire is described in `wasm-nat/README.md`.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { bulkClusterIp, bulkEndpoints } from "../../tests/kernel/many-services.ts";

export interface Call {
  /** One of the boundary's, or `drain`: `next_transaction` until there is no more, or `mark`: the end of a stretch. */
  readonly name: string;
  readonly input: Uint8Array;
}

export interface Cluster {
  readonly services: number;
  readonly endpointsEach: number;
  readonly changes: number;
}

/** Objects of a batch, as `nat.ts` sends them. */
const BATCH = 2_000;
const PORT = ["http", "TCP", 80, 0] as const;
const TARGET = [["http", "TCP", 8080]] as const;

/** The addresses of a Service's endpoints after so many changes of it. */
export function endpointsAfter(cluster: Cluster, index: number, changes: number): readonly string[] {
  const endpoints = bulkEndpoints(index, cluster.endpointsEach);
  return changes === 0 ? endpoints : [...endpoints.slice(0, -1), `10.200.${changes >> 8}.${changes & 255}`];
}

/** Everything taken, a mark, everything compiled, a mark, then each change with a mark after it. */
export function callsOfCluster(cluster: Cluster): readonly Call[] {
  const { services, changes } = cluster;
  const numbers = Array.from({ length: services }, (_, index) => index);
  const slice = (index: number, changed: number) => ({
    n: `bulk/bulk-${index}-1`,
    s: `bulk-${index}`,
    f: "IPv4",
    p: TARGET,
    e: endpointsAfter(cluster, index, changed).map((a) => ({ a, n: "node-b" })),
  });
  const settings = {
    backend: "nftables",
    node: { name: "node-a", addresses: { IPv4: ["192.168.0.2"], IPv6: [] } },
    localDetector: { kind: "cidrs", cidrs: ["10.0.0.0/8"] },
  };
  const planned = [call("plan"), call("drain"), call("commit"), call("mark")];
  return [
    call("configure", settings),
    ...batches(numbers).map((batch) =>
      call("apply", {
        S: batch.map((index) => ({ n: `bulk/bulk-${index}`, c: [bulkClusterIp(index)], p: [PORT] })),
      }),
    ),
    ...batches(numbers).map((batch) => call("apply", { E: batch.map((index) => slice(index, 0)) })),
    call("mark"),
    ...planned,
    ...Array.from({ length: changes }, (_, change) => [
      call("apply", { E: [slice((change * 7) % services, change + 1)] }),
      ...planned,
    ]).flat(),
  ];
}

function call(name: string, input?: object): Call {
  return { name, input: new TextEncoder().encode(input === undefined ? "" : JSON.stringify(input)) };
}

function batches<T>(items: readonly T[]): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(items.length / BATCH) }, (_, index) =>
    items.slice(index * BATCH, (index + 1) * BATCH),
  );
}

/** A stretch in milliseconds. */
export interface Stretch {
  /** Of the processor: what else the machine does is not counted. For what takes long. */
  readonly processor: number;
  /** Of the clock, for what is too short for anything to come in between. */
  readonly clock: number;
}

/** Ends the stretch that began with the last call or with this one's making. */
export function stretchClock(): () => Stretch {
  const now = () => {
    const { user, system } = process.threadCpuUsage();
    return { processor: (user + system) / 1000, clock: performance.now() };
  };
  let began = now();
  return () => {
    const { processor, clock } = now();
    const stretch = { processor: processor - began.processor, clock: clock - began.clock };
    began = now();
    return stretch;
  };
}

export async function replayInWasm(
  module: WebAssembly.Module,
  calls: readonly Call[],
): Promise<readonly Stretch[]> {
  const { exports } = await WebAssembly.instantiate(module, {});
  const memory = exports.memory as WebAssembly.Memory;
  const functions = exports as unknown as Readonly<Record<string, (length?: number) => number>>;
  const make = (name: string, input: Uint8Array): number => {
    const place = functions.input?.(input.length) ?? 0;
    new Uint8Array(memory.buffer).set(input, place);
    if (functions[name]?.() !== 0) throw new Error(`${name} failed`);
    return functions.output_length?.() ?? 0;
  };
  const stretches: Stretch[] = [];
  const end = stretchClock();
  for (const { name, input } of calls) {
    if (name === "drain") {
      while (make("next_transaction", input) > 0);
    } else if (name === "mark") {
      stretches.push(end());
    } else make(name, input);
  }
  return stretches;
}

const MANIFEST = join(import.meta.dirname, "..", "..", "wasm-nat", "Cargo.toml");

/** Builds the crate's example of this purpose and returns what runs it. */
export function buildNativeReplay(calls: readonly Call[]): () => readonly Stretch[] {
  const words = [
    "build",
    "--release",
    "--quiet",
    "--locked",
    "--example",
    "replay",
    "--manifest-path",
    MANIFEST,
  ];
  execFileSync("cargo", words, { stdio: ["ignore", "inherit", "inherit"] });
  const program = join(
    import.meta.dirname,
    "..",
    "..",
    "wasm-nat",
    "target",
    "release",
    "examples",
    "replay",
  );
  const script = Buffer.concat(
    calls.flatMap(({ name, input }) => [Buffer.from(`${name} ${input.length}\n`), input]),
  );
  return () => {
    const said = execFileSync(program, { input: script, encoding: "utf8", maxBuffer: 1 << 24 });
    return said
      .trim()
      .split("\n")
      .map((line) => {
        const [processor = Number.NaN, clock = Number.NaN] = line
          .split(" ")
          .map((micros) => Number(micros) / 1000);
        return { processor, clock };
      });
  };
}
