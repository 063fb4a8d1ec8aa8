/**
 * A network namespace of a test's own. Needs root; `canMakeNamespaces` says why not, for a skip with a reason.
 *
 * Names carry the prefix and the process, so that tests that run at once do not meet, and what a killed test
 * leaves behind can be told apart.
 */

import { execFileSync } from "node:child_process";

export interface TestNamespace {
  readonly name: string;
  /** To put before a program: `ip netns exec NAME`. */
  readonly through: readonly string[];
  /** Runs a shell script inside, and returns what it printed; throws where it fails. */
  readonly run: (script: string) => string;
  readonly remove: () => void;
}

let count = 0;

export function makeNamespace(purpose: string): TestNamespace {
  const name = `fla-${purpose}-${process.pid}-${count++}`;
  execFileSync("ip", ["netns", "add", name]);
  const through = ["ip", "netns", "exec", name] as const;
  const run = (script: string): string =>
    execFileSync(through[0], [...through.slice(1), "sh", "-ec", script], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  run("ip link set lo up");
  return { name, through, run, remove: () => execFileSync("ip", ["netns", "delete", name]) };
}

/** Why tests with rules cannot run here; `undefined`: they can. */
export function whyNoKernel(programs: readonly string[]): string | undefined {
  if (process.getuid?.() !== 0) return "not root";
  const missing = ["ip", ...programs].find((program) => {
    try {
      execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
      return false;
    } catch {
      return true;
    }
  });
  return missing === undefined ? undefined : `${missing} is not installed`;
}
