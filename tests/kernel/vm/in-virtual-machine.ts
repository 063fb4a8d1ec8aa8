/**
 * A test file run by the vitest of a virtual machine, its tests reported here one by one.
 *
 * In: a test file, which runs its tests itself where the kernel has IPVS and calls this where it has not. Out: the same
 * tests, passed, failed or skipped as they were inside. What the machine needs (the prober, the compiled NAT compiler) is
 * built before it starts, and the command is bundled: compiling is what an emulated processor is slowest at.
 */
import { dirname, join, relative } from "node:path";
import { describe, expect, it } from "vitest";
import { packCommand } from "../../../setup/bundle-command.mjs";
import { runningKernelHasIpvs } from "../../../setup/debian-kernel.mjs";
import { missingForKernelTests } from "../../../setup/kernel-requirements.mjs";
import { buildWasmModule } from "../../../setup/wasm.mjs";
import { buildProber } from "../prober.ts";
import { Exchange, type MachineRun, runInVirtualMachine, whatTheMachineLacks } from "./virtual-machine.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");
/** Emulated, and nothing there is in a cache. */
const MACHINE_SECONDS = 25 * 60;
const MODULES = ["ip_vs", "dummy", "ip_set", "xt_set", "nf_conntrack", "sctp"] as const;

/** Whether IPVS can be tested where we are: in a kernel that has it, or inside the machine. */
export async function hasIpvsHere(): Promise<boolean> {
  return process.env.FAIRLEAD_IPVS_HERE === "yes" || (await runningKernelHasIpvs());
}

interface Report {
  readonly testResults: readonly {
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly ancestorTitles: readonly string[];
      readonly title: string;
      readonly status: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

/** Runs `file` inside and declares its tests here. To be awaited at the top of that file. */
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
    const run = await runVitest(exchange, file);
    const text = exchange.read("report.json");
    const report = text === undefined ? undefined : (JSON.parse(text) as Report);
    if (
      report === undefined ||
      !report.testResults.some(({ assertionResults }) => assertionResults.length > 0)
    )
      declareFailure(run);
    else declareTests(report, run);
  } finally {
    exchange.remove();
  }
}

async function runVitest(exchange: Exchange, file: string): Promise<MachineRun> {
  const prober = await buildProber();
  if (!(await buildWasmModule()))
    throw new Error("the NAT compiler could not be built, and the machine has no time for it");
  const packed = join(ROOT, ".cache", "packed");
  await packCommand(packed);
  const vitest = join(ROOT, "node_modules", "vitest", "vitest.mjs");
  const words = [
    process.execPath,
    vitest,
    // A worker that is a process would start Node once more.
    ...["run", "--project=kernel-long", "--pool=threads", relative(ROOT, file)],
    ...["--reporter=default", "--reporter=json", `--outputFile.json=${exchange.file("report.json")}`],
    ...(process.env.FAIRLEAD_VM_VITEST?.split(" ") ?? []),
  ];
  return runInVirtualMachine(exchange, {
    line: words.map((word) => `'${word}'`).join(" "),
    folder: ROOT,
    environment: {
      PATH: [dirname(process.execPath), process.env.PATH, "/usr/sbin", "/sbin"].join(":"),
      FAIRLEAD_IPVS_HERE: "yes",
      FAIRLEAD_PROBER: prober,
      FAIRLEAD_COMMAND: join(packed, "bin", "fairlead.mjs"),
      FAIRLEAD_PATIENCE: "6",
      NO_COLOR: "1",
    },
    modules: MODULES,
    seconds: MACHINE_SECONDS,
  });
}

function declareTests({ testResults }: Report, run: MachineRun): void {
  describe("in a virtual machine", () => {
    for (const file of testResults) {
      for (const { ancestorTitles, title, status, failureMessages } of file.assertionResults) {
        const name = [...ancestorTitles, title].join(" > ");
        if (status === "passed" || status === "failed") {
          it(name, () => {
            if (status === "failed") throw new Error(failureMessages.join("\n"));
            expect(status).toBe("passed");
          });
        } else it.skip(name, () => {});
      }
      // What failed before its first test has none to tell it.
      if (file.status === "failed" && !file.assertionResults.some(({ status }) => status === "failed")) {
        it("runs its tests", () => {
          throw new Error(`${file.message}\n${run.output}`);
        });
      }
    }
    // A worker that crashes after its tests, or an error outside of any: vitest tells it by its exit code alone.
    if (run.code !== 0 && !testResults.some(({ status }) => status === "failed")) {
      it("ends well", () => {
        throw new Error(`vitest ended with ${run.code} inside\n${run.output.slice(-8_000)}`);
      });
    }
  });
}

function declareFailure({ code, output, console }: MachineRun): void {
  it("runs in a virtual machine", () => {
    throw new Error(`no report; exit code ${code}\n${output.slice(-8_000)}\n${console.slice(-4_000)}`);
  });
}
