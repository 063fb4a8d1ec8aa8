/**
 * A test file run in a virtual machine, its tests reported here one by one.
 *
 * In: a test file, which runs its tests itself where the kernel has IPVS and calls this where it has not. Out: the same
 * tests, passed, failed or skipped as they were inside. What the machine needs (the prober, the compiled NAT compiler, the
 * test file and the command, each bundled) is built before it starts: compiling is what an emulated processor is slowest at.
 */
import { readdirSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { build } from "esbuild";
import { describe, it } from "vitest";
import { packCommand } from "../../../setup/bundle-command.mjs";
import { runningKernelHasIpvs } from "../../../setup/debian-kernel.mjs";
import { missingForKernelTests } from "../../../setup/kernel-requirements.mjs";
import { buildWasmModule } from "../../../setup/wasm.mjs";
import { buildProber } from "../prober.ts";
import { oftenReadBy } from "./often-read.ts";
import type { TestReport } from "./test-runner.ts";
import { Exchange, type MachineRun, runInVirtualMachine, whatTheMachineLacks } from "./virtual-machine.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");
/** Two folders below the checkout, as the test files are, which find it by that. */
const BUNDLES = join(ROOT, ".cache", "machine");
/** Emulated, and nothing there is in a cache. */
const MACHINE_SECONDS = 60 * 60;
const MODULES = ["ip_vs", "dummy", "ip_set", "xt_set", "nf_conntrack", "sctp"] as const;

/** What the tests and the agent run, again and again. */
const PROGRAMS = [
  ...["sh", "ip", "nft", "ipset", "ipvsadm", "conntrack", "curl", "nice", "modprobe"],
  ...["iptables", "ip6tables"].flatMap((name) =>
    ["", "-nft", "-legacy"].flatMap((variant) =>
      ["", "-save", "-restore"].map((verb) => name + variant + verb),
    ),
  ),
];

/** Whether IPVS can be tested where we are: in a kernel that has it, or inside the machine. */
export async function hasIpvsHere(): Promise<boolean> {
  return process.env.FAIRLEAD_IPVS_HERE === "yes" || (await runningKernelHasIpvs());
}

/**
 * Runs `file` inside and declares its tests here. To be awaited at the top of that file. `FAIRLEAD_MACHINE_ONLY` chooses
 * tests by a part of their names.
 */
export async function describeInVirtualMachine(file: string): Promise<void> {
  const missing = missingForKernelTests() ?? whatTheMachineLacks();
  if (missing !== undefined) {
    describe("in a virtual machine", () => {
      console.warn(`${relative(ROOT, file)}: ${missing}.`);
      it.skip(missing, () => {});
    });
    return;
  }
  const exchange = new Exchange();
  try {
    const run = await runTestFile(exchange, file);
    const report = exchange.read("report.json");
    declareTests(report === undefined ? NOTHING : (JSON.parse(report) as TestReport), run);
  } finally {
    exchange.remove();
  }
}

const NOTHING: TestReport = { results: [], complete: false };

async function runTestFile(exchange: Exchange, file: string): Promise<MachineRun> {
  const prober = await buildProber();
  if (!(await buildWasmModule()))
    throw new Error("the NAT compiler could not be built, and the machine has no time for it");
  const packed = join(ROOT, ".cache", "packed");
  await packCommand(packed);
  const bundle = join(BUNDLES, basename(file).replace(/\.ts$/, ".mjs"));
  await bundleTestFile(file, bundle, exchange);
  return runInVirtualMachine(exchange, {
    line: `'${process.execPath}' '${bundle}'`,
    folder: ROOT,
    environment: {
      PATH: [dirname(process.execPath), process.env.PATH, "/usr/sbin", "/sbin"].join(":"),
      FAIRLEAD_IPVS_HERE: "yes",
      FAIRLEAD_PROBER: prober,
      FAIRLEAD_COMMAND: join(packed, "bin", "fairlead.mjs"),
      FAIRLEAD_PATIENCE: "6",
      NO_COLOR: "1",
      NODE_OPTIONS: `--import=${STEADY_WASM}`,
    },
    modules: MODULES,
    inMemory: [...oftenReadBy(PROGRAMS), ...filesIn(packed), bundle, STEADY_WASM],
    seconds: MACHINE_SECONDS,
  });
}

const STEADY_WASM = join(import.meta.dirname, "steady-wasm.mjs");

function filesIn(folder: string): readonly string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
}

async function bundleTestFile(file: string, outfile: string, exchange: Exchange): Promise<void> {
  const runner = join(import.meta.dirname, "test-runner.ts");
  const words = [exchange.file("report.json"), process.env.FAIRLEAD_MACHINE_ONLY ?? ""];
  await build({
    stdin: {
      contents: `import ${JSON.stringify(file)};
import { runTests } from ${JSON.stringify(runner)};
process.exit((await runTests(${words.map((word) => JSON.stringify(word)).join(", ")})) ? 0 : 1);`,
      resolveDir: dirname(file),
    },
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node24",
    alias: { vitest: runner },
    external: ["esbuild"],
    logLevel: "warning",
  });
}

function declareTests({ results, complete }: TestReport, { code, output, console }: MachineRun): void {
  describe("in a virtual machine", () => {
    for (const { suites, name, status, failure } of results) {
      const whole = [...suites, name].join(" > ");
      if (status === "skipped") it.skip(whole, () => {});
      else
        it(whole, () => {
          if (status === "failed") throw new Error(failure);
        });
    }
    // A process that crashed, a machine that never started, a time that was over.
    if (!complete || results.length === 0) {
      it("runs to its end", () => {
        const ended = code === undefined ? "the machine ended first" : `it ended with ${code}`;
        throw new Error(
          `${results.length} tests, then ${ended}\n${output.slice(-8_000)}\n${console.slice(-4_000)}`,
        );
      });
    }
  });
}
