/** Applies what the compiler has made, each transaction by the program that it is for. Nothing is decided here. */

import type { IpFamily } from "../../cluster/model.ts";
import type { NatProgram, NatTransaction } from "../../wasm-nat/nat.ts";
import { CommandError, runCommand } from "./command.ts";
import { restoreIptables } from "./iptables.ts";
import { restoreIpvs } from "./ipvs.ts";
import { KernelError } from "./kernel-error.ts";
import { applyNft } from "./nft.ts";
import type { StartOptions } from "./waiting-programs.ts";

export type KernelOptions = StartOptions;

/** `undefined`: it takes rules of both, or of what belongs to both. */
export function familyOfProgram(program: string): IpFamily | undefined {
  if (program.startsWith("iptables-")) return "IPv4";
  return program.startsWith("ip6tables-") ? "IPv6" : undefined;
}

/** Whose program has failed with a `KernelError` or `CommandError`; `undefined`: that of both. */
export function familyOfFailure(error: unknown): IpFamily | undefined {
  if (error instanceof KernelError) return familyOfProgram(error.details.program);
  return error instanceof CommandError ? familyOfProgram(error.program) : undefined;
}

/** For people: what would apply a transaction by hand. */
export const COMMAND_LINES: Readonly<Record<NatProgram, string>> = {
  nft: "nft -f -",
  "iptables-restore": "iptables-restore --noflush --counters -w 10",
  "ip6tables-restore": "ip6tables-restore --noflush --counters -w 10",
  "ip-batch": "ip -batch -",
  "ipset-restore": "ipset restore",
  "ipvsadm-restore": "ipvsadm --restore",
};

/** What would be applied, as text: each transaction after a comment that says what takes it. nft and iptables-restore read it as it is. */
export function printTransactions(transactions: Iterable<Pick<NatTransaction, "program" | "text">>): string {
  const decoder = new TextDecoder();
  let text = "";
  for (const { program, text: input } of transactions) {
    const body = decoder.decode(input);
    if (body !== "") text += `# ${COMMAND_LINES[program]}\n${body}${body.endsWith("\n") ? "" : "\n"}`;
  }
  return text;
}

/** Rejects with `KernelError` or `CommandError`; then this transaction is not in force, and those before it are. */
export async function applyTransaction(
  { program, text }: Pick<NatTransaction, "program" | "text">,
  options: KernelOptions,
): Promise<void> {
  switch (program) {
    case "nft":
      return applyNft([text], options);
    case "iptables-restore":
      return restoreIptables({ family: "IPv4" }, [text], options);
    case "ip6tables-restore":
      return restoreIptables({ family: "IPv6" }, [text], options);
    case "ipset-restore":
      return applyPlain("ipset", ["restore"], text, options);
    case "ip-batch":
      return applyPlain("ip", ["-batch", "-"], text, options);
    case "ipvsadm-restore":
      return restoreIpvs(text, options);
    default:
      return program satisfies never;
  }
}

const PLAIN_TIMEOUT_MS = 60_000;

async function applyPlain(
  program: string,
  args: readonly string[],
  text: Uint8Array,
  options: KernelOptions,
): Promise<void> {
  const { code, errors } = await runCommand(program, args, {
    ...options,
    timeoutMs: PLAIN_TIMEOUT_MS,
    input: [text],
  });
  if (code === 0) return;
  const reason = errors.trim().split("\n")[0];
  throw new KernelError({ program, reason: reason || `it ended with code ${code}` });
}
