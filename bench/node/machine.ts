/** What the benchmarks of the node half need of the machine, and which programs they met there. */
import { execFileSync } from "node:child_process";
import { missingForKernelTests } from "../../setup/kernel-requirements.mjs";

export function requireKernel(): void {
  const missing = missingForKernelTests();
  if (missing !== undefined) throw new Error(`This benchmark cannot run here: ${missing}.`);
}

export function versions(): Readonly<Record<string, string>> {
  const first = (program: string) =>
    execFileSync(program, ["--version"], { encoding: "utf8" }).split("\n")[0] ?? "";
  return { nft: first("nft"), iptables: first("iptables") };
}
