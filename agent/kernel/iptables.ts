/**
 * iptables through `iptables-restore`: applies partial transactions, reads tables back, and removes chains.
 *
 * In: text of `iptables-save`'s format. Out: nothing, or a `KernelError`. Nothing is decided here.
 *
 * A transaction is atomic for each table (`*nat … COMMIT`), not over tables; whoever writes it orders the tables.
 */

import type { IpFamily } from "../../cluster/model.ts";
import { type CommandResult, runCommand } from "./command.ts";
import { excerptOf, KernelError } from "./kernel-error.ts";
import { runWithInput, type StartOptions } from "./waiting-programs.ts";

export type IptablesVariant = "legacy" | "nft";
export type IptablesTable = "filter" | "nat" | "mangle" | "raw";

export interface IptablesPrograms {
  readonly family: IpFamily;
  /** Absent: what the system means by `iptables`, which is what everybody else on the node uses. */
  readonly variant?: IptablesVariant | undefined;
}

export type IptablesOptions = StartOptions & { readonly timeoutMs?: number };

/** 80 000 rules take about 4 s by the nft variant. */
const RESTORE_TIMEOUT_MS = 120_000;
const SAVE_TIMEOUT_MS = 60_000;
/** How long to wait for the xtables lock; kube-proxy, CNI plug-ins and people take it too. */
const LOCK_SECONDS = 10;

/** Rejects with `KernelError` or `CommandError`; then the tables up to the failing one are changed and no others. */
export async function restoreIptables(
  programs: IptablesPrograms,
  pieces: readonly (string | Uint8Array)[],
  options: IptablesOptions = {},
): Promise<void> {
  if (pieces.every((piece) => piece.length === 0)) return;
  const program = programName(programs, "restore");
  const args = ["--noflush", "--counters", "-w", String(LOCK_SECONDS)];
  const result = await runWithInput(program, args, {
    timeoutMs: RESTORE_TIMEOUT_MS,
    ...options,
    input: pieces,
  });
  if (result.code !== 0) throw restoreError(program, result, pieces);
}

/** Rules that a transaction writes, by table. */
export function countRules(text: Uint8Array): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  let table = "";
  const bytes = Buffer.from(text.buffer, text.byteOffset, text.byteLength);
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf("\n", at);
    const next = end === -1 ? bytes.length : end + 1;
    if (bytes[at] === ASTERISK) table = bytes.toString("latin1", at + 1, next).trimEnd();
    else if (bytes[at] === DASH && bytes[at + 1] === UPPER_A) counts.set(table, (counts.get(table) ?? 0) + 1);
    at = next;
  }
  return counts;
}

const [ASTERISK, DASH, UPPER_A] = Buffer.from("*-A");

/** The text of `iptables-save` for one table. */
export async function saveIptables(
  programs: IptablesPrograms,
  table: IptablesTable,
  options: IptablesOptions = {},
): Promise<string> {
  const program = programName(programs, "save");
  const result = await runCommand(program, ["-t", table], { timeoutMs: SAVE_TIMEOUT_MS, ...options });
  if (result.code !== 0) throw restoreError(program, result, []);
  return result.output;
}

/** `iptables-restore`, or `ip6tables-nft-restore` where a variant is meant. */
export function programName({ family, variant }: IptablesPrograms, verb: "restore" | "save"): string {
  const name = family === "IPv4" ? "iptables" : "ip6tables";
  return variant === undefined ? `${name}-${verb}` : `${name}-${variant}-${verb}`;
}

/** Four ways to tell the line: `line 3 failed`, `line 3 failed: why`, `Error occurred at line: 3`, `line 5: CHAIN_DEL failed (why): …`. */
const LINE = /\b(?:line (\d+) failed|Error occurred at line: (\d+)|^line (\d+): |expected at line (\d+))/m;
const PREFIX = /^ip6?tables(?:-legacy|-nft)?(?:-restore|-save)?(?: v\S+ \((?:legacy|nf_tables)\))?:\s*/;

export function restoreError(
  program: string,
  { code, errors }: Pick<CommandResult, "code" | "errors">,
  pieces: readonly (string | Uint8Array)[],
): KernelError {
  const groups = LINE.exec(errors);
  let line = groups === null ? undefined : Number(groups.slice(1).find((group) => group !== undefined));
  const said = errors
    .split("\n")
    .map((text) => text.replace(PREFIX, "").trim())
    .filter((text) => text !== "" && !text.startsWith("# Warning"));
  const reason = (said[0] ?? `it ended with code ${code}`)
    .replace(/^line \d+ failed(?:: )?/, "")
    .replace(/^line \d+: /, "");
  // The nft variant resolves targets when it sees the next line, and names that one.
  if (line !== undefined && reason.startsWith("Chain '") && errors.includes("(nf_tables)")) line -= 1;
  return new KernelError({
    program,
    reason: reason === "" ? "the kernel does not take it" : reason,
    line,
    text: line === undefined ? undefined : excerptOf(pieces, line),
  });
}

/**
 * The text that removes every chain that `isOurs` names and every rule that jumps to one, and nothing else; `undefined`
 * where there is nothing to remove. Counters and rules of others stay as they are. A chain that `isForOthers` names, too,
 * stays as long as a chain of others leads to it; with it every rule that does.
 */
export function planRemoval(
  saved: string,
  isOursIn: (chain: string, table: string) => boolean,
  isForOthers: (chain: string) => boolean = () => false,
): string | undefined {
  const lines = saved.split("\n");
  const table = lines.find((line) => line.startsWith("*"))?.trim() ?? "";
  const used = new Set<string>();
  const isOurs = (chain: string): boolean => isOursIn(chain, table.slice(1)) && !used.has(chain);
  const chains: string[] = [];
  const jumps: string[] = [];
  for (const line of lines) {
    const [, from = "", to = ""] = JUMP.exec(line) ?? [];
    if (isForOthers(to) && !BUILT_IN_CHAIN.test(from) && !isOurs(from)) used.add(to);
  }
  for (const line of lines) {
    if (line.startsWith(":")) {
      const chain = line.slice(1, line.indexOf(" "));
      if (isOurs(chain)) chains.push(chain);
    } else {
      const rule = JUMP.exec(line);
      const [, from = "", to = ""] = rule ?? [];
      if (rule !== null && !isOurs(from) && isOurs(to))
        jumps.push(line.replace(/^(?:\[\d+:\d+\] )?-A/, "-D"));
    }
  }
  if (chains.length === 0) return undefined;
  return [
    table,
    // Naming a chain empties it; all of them are emptied before the first is deleted, so none is referred to.
    ...chains.map((chain) => `:${chain} - [0:0]`),
    ...jumps,
    ...chains.map((chain) => `-X ${chain}`),
    "COMMIT\n",
  ].join("\n");
}

const JUMP = /^(?:\[\d+:\d+\] )?-A (\S+) (?:.* )?-[jg] (\S+)/;
const BUILT_IN_CHAIN = /^(?:PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)$/;

/** Removes chains of every table as `planRemoval` says. True: there was something to remove. */
export async function removeChains(
  programs: IptablesPrograms,
  isOurs: (chain: string, table: string) => boolean,
  { isForOthers, ...options }: IptablesOptions & { readonly isForOthers?: (chain: string) => boolean } = {},
): Promise<boolean> {
  const saved = await saveTables(programs, options);
  const plans = saved.split(/^(?=\*)/m).map((table) => planRemoval(table, isOurs, isForOthers));
  const plan = plans.filter((text) => text !== undefined);
  await restoreIptables(programs, plan, options);
  return plan.length > 0;
}

/**
 * The text of `iptables-save` for every table that there is. Naming a table would make the legacy variant create it and
 * load its module; unnamed, only those are read that the kernel has.
 */
export async function saveTables(
  programs: IptablesPrograms,
  { counters = false, ...options }: IptablesOptions & { readonly counters?: boolean } = {},
): Promise<string> {
  const program = programName(programs, "save");
  const args = counters ? ["-c"] : [];
  const result = await runCommand(program, args, { timeoutMs: SAVE_TIMEOUT_MS, ...options });
  if (result.code !== 0) throw restoreError(program, result, []);
  return result.output;
}

/** Which variant the plain names stand for; `undefined`: there is no iptables. */
export async function systemVariant(options: IptablesOptions = {}): Promise<IptablesVariant | undefined> {
  const result = await runCommand("iptables", ["--version"], {
    timeoutMs: SAVE_TIMEOUT_MS,
    ...options,
  }).catch(() => undefined);
  if (result === undefined || result.code !== 0) return undefined;
  return result.output.includes("nf_tables") ? "nft" : "legacy";
}
