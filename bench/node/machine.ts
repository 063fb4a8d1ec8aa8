/** What the benchmarks of the node half need of the machine, and which programs they met there. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { packCommand } from "../../setup/bundle-command.mjs";
import { missingForKernelTests } from "../../setup/kernel-requirements.mjs";

/** Also bundles the command, as it is on a node: the sources and those of its packages take memory and time of their own. */
export async function prepareMachine(): Promise<void> {
  const missing = missingForKernelTests();
  if (missing !== undefined) throw new Error(`This benchmark cannot run here: ${missing}.`);
  const packed = join(import.meta.dirname, "..", "..", ".cache", "packed");
  await packCommand(packed);
  process.env.FAIRLEAD_COMMAND = join(packed, "bin", "fairlead.mjs");
}

export function versions(): Readonly<Record<string, string>> {
  const first = (program: string) =>
    execFileSync(program, ["--version"], { encoding: "utf8" }).split("\n")[0] ?? "";
  return { nft: first("nft"), iptables: first("iptables") };
}
