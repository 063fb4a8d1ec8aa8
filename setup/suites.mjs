/**
 * The suites of `npm test`, in their order: what is quick and says most comes first, what needs the machine for
 * itself (the kernel, whole edges over sockets) comes alone.
 *
 * A suite returns `{ passed, failed, skips, failures }`; a runner that crashes, hangs or reports nothing is a failure.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lint, TYPESCRIPT_PROJECTS, typecheck } from "./checks.mjs";
import { haveGoPrograms } from "./go-programs.mjs";
import { missingForKernelTests } from "./kernel-requirements.mjs";
import { environment, root, run, toolsDirectory, which } from "./process.mjs";
import { setUpVirtualMachine } from "./virtual-machine.mjs";

/** A suite that hangs is ended after so long. */
const SUITE_SECONDS = 25 * 60;
const LONG_SUITE_SECONDS = 90 * 60;

export const suites = [
  { name: "lint", what: "format and lint (biome)", run: () => oneCheck("biome ci", lint) },
  {
    name: "types",
    what: "type-check (tsc)",
    run: async () =>
      add(
        ...(await sequence(TYPESCRIPT_PROJECTS, (project) =>
          oneCheck(`tsc -p ${project}`, () => typecheck(project)),
        )),
      ),
  },
  { name: "rust", what: "the NAT compiler on this machine (cargo)", run: cargoSuite },
  { name: "unit", what: "parts by themselves (vitest)", run: () => vitestSuite("unit") },
  { name: "worker", what: "the Worker in workerd (vitest)", run: () => vitestSuite("worker") },
  { name: "e2e", what: "the whole edge over sockets (vitest)", run: () => vitestSuite("e2e") },
  { name: "kernel", what: "packets through the real kernel (vitest)", run: kernelSuite },
  {
    name: "kernel-long",
    what: "lasting load, statistics, and IPVS in a virtual machine (vitest)",
    onlyWhenNamed: true,
    run: longKernelSuite,
  },
  { name: "kubernetes", what: "a real Kubernetes API server (vitest)", run: kubernetesSuite },
  { name: "package", what: "the package, installed elsewhere (vitest)", run: () => vitestSuite("package") },
];

const nothing = { passed: 0, failed: 0, skips: [], failures: [] };

function add(...results) {
  return results.reduce(
    (sum, one) => ({
      passed: sum.passed + one.passed,
      failed: sum.failed + one.failed,
      skips: [...sum.skips, ...one.skips],
      failures: [...sum.failures, ...one.failures],
    }),
    nothing,
  );
}

async function sequence(items, action) {
  const results = [];
  for (const item of items) results.push(await action(item));
  return results;
}

/** One command as one test: its output is shown when it fails. */
async function oneCheck(name, check) {
  const { code, output } = await check();
  if (code === 0) return { ...nothing, passed: 1 };
  process.stdout.write(output);
  return { ...nothing, failed: 1, failures: [name] };
}

/** One vitest project; its own report decides, and its exit code has the last word. */
async function vitestSuite(project, seconds = SUITE_SECONDS) {
  const directory = mkdtempSync(join(tmpdir(), "fairlead-test-"));
  const report = join(directory, "report.json");
  try {
    const { code, timedOut } = await run(
      join(toolsDirectory, "node"),
      [
        join(root, "node_modules", "vitest", "vitest.mjs"),
        "run",
        `--project=${project}`,
        "--reporter=dot",
        "--reporter=json",
        `--outputFile.json=${report}`,
      ],
      { show: true, seconds, env: environment({ NO_COLOR: "1" }) },
    );
    if (timedOut) return crashed(`${project} took longer than ${SUITE_SECONDS} s and was ended`);
    if (!existsSync(report)) return crashed(`vitest ended with exit code ${code} and no report`);
    const result = readVitestReport(JSON.parse(readFileSync(report, "utf8")), code);
    const ran = result.passed + result.failed + result.skips.length;
    return ran > 0 ? result : crashed(`${project} has no tests`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function readVitestReport(report, code) {
  const result = { passed: 0, failed: 0, skips: [], failures: [] };
  for (const file of report.testResults) {
    const path = file.name.startsWith(root) ? file.name.slice(root.length + 1) : file.name;
    for (const test of file.assertionResults) {
      const name = `${path} > ${test.fullName}`;
      if (test.status === "passed") result.passed++;
      else if (test.status === "failed") {
        result.failed++;
        result.failures.push(name);
      } else result.skips.push(name);
    }
    // A file that could not even be loaded has no tests to fail.
    if (file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed")) {
      result.failed++;
      result.failures.push(`${path}: ${file.message.split("\n")[0]}`);
    }
  }
  if (code !== 0 && result.failed === 0) return add(result, crashed(`vitest ended with exit code ${code}`));
  return result;
}

function crashed(sentence) {
  return { ...nothing, failed: 1, failures: [sentence] };
}

/** Without Go there is no API server to test against. */
async function kubernetesSuite() {
  if (haveGoPrograms()) return vitestSuite("kubernetes");
  return {
    ...nothing,
    skips: ["tests/kubernetes: there is no Kubernetes API server, since Go is missing or failed"],
  };
}

/** Real packets need network namespaces, and a machine that lets us make them. */
async function kernelSuite() {
  const missing = missingForKernelTests();
  return missing === undefined ? vitestSuite("kernel") : { ...nothing, skips: [`tests/kernel: ${missing}`] };
}

/** What takes many minutes, and a virtual machine where the running kernel has no IPVS. Sets that up itself. */
async function longKernelSuite() {
  const missing = missingForKernelTests();
  if (missing !== undefined) return { ...nothing, skips: [`tests/kernel: ${missing}`] };
  await setUpVirtualMachine();
  return vitestSuite("kernel-long", LONG_SUITE_SECONDS);
}

/** The crate's own tests, format and lint. */
async function cargoSuite() {
  const manifest = join(root, "wasm-nat", "Cargo.toml");
  const cargo = which("cargo");
  if (cargo === undefined) return { ...nothing, skips: ["cargo test: there is no cargo on this machine"] };
  const cargoRun = (...args) => run(cargo, args, { env: process.env, seconds: SUITE_SECONDS });
  const { code, output, timedOut } = await cargoRun("test", "--quiet", "--manifest-path", manifest);
  const result = { passed: 0, failed: 0, skips: [], failures: [] };
  for (const [, passed, failed, ignored] of output.matchAll(
    /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm,
  )) {
    result.passed += Number(passed);
    result.failed += Number(failed);
    for (let i = 0; i < Number(ignored); i++) result.skips.push("an #[ignore]d cargo test");
  }
  for (const [, name] of output.matchAll(/^---- (\S+) stdout ----$/gm)) result.failures.push(name);
  if (code !== 0) process.stdout.write(output);
  if (code !== 0 && result.failed === 0) {
    return add(
      result,
      crashed(timedOut ? "cargo test took too long" : `cargo test ended with exit code ${code}`),
    );
  }
  const checks = [];
  // Debian's Rust may come without them; rustup's has both.
  if ((await cargoRun("fmt", "--version")).code !== 0) {
    checks.push({ ...nothing, skips: ["cargo fmt --check: this cargo has no rustfmt"] });
  } else {
    checks.push(
      await oneCheck("cargo fmt --check", () => cargoRun("fmt", "--check", "--manifest-path", manifest)),
    );
  }
  if ((await cargoRun("clippy", "--version")).code !== 0) {
    checks.push({ ...nothing, skips: ["cargo clippy: this cargo has no clippy"] });
  } else {
    checks.push(
      await oneCheck("cargo clippy", () =>
        cargoRun("clippy", "--quiet", "--all-targets", "--manifest-path", manifest, "--", "-D", "warnings"),
      ),
    );
  }
  return add(result, ...checks);
}
