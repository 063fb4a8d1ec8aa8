/**
 * nftables through `nft`: applies transactions, and reads back what stands in a table.
 *
 * In: transactions, each of which the kernel takes whole or not at all. Out: nothing, or a `KernelError`. Nothing is
 * decided here.
 *
 * What costs how much was measured with nft 1.0.6 and 150 000 elements in maps: changing elements 8 to 40 ms,
 * `list chains` and `-t list ruleset` 6 ms, but `list tables`, `list chain` and `-t list table` 3 s, because the
 * program fetches every element of the table and then prints none. So structure is read by `-t list ruleset`.
 */

import { CommandError, type CommandResult, runCommand } from "./command.ts";
import { excerptOf, KernelError } from "./kernel-error.ts";
import { UnlinkedFile } from "./unlinked-file.ts";
import { runWithInput, type StartOptions } from "./waiting-programs.ts";

export type NftFamily = "ip" | "ip6";

export interface NftTable {
  readonly family: NftFamily;
  readonly name: string;
}

export type NftOptions = StartOptions & { readonly timeoutMs?: number };

/** A transaction of 100 000 elements takes about 2 s; a kernel that is slower than this is stuck. */
const APPLY_TIMEOUT_MS = 120_000;
const LIST_TIMEOUT_MS = 60_000;

/** One transaction: the pieces are joined. Rejects with `KernelError` or `CommandError`; then nothing was changed. */
export async function applyNft(
  pieces: readonly (string | Uint8Array)[],
  options: NftOptions = {},
): Promise<void> {
  if (pieces.every((piece) => piece.length === 0)) return;
  const result = await runWithInput("nft", ["-f", "-"], {
    timeoutMs: APPLY_TIMEOUT_MS,
    ...options,
    input: pieces,
  });
  if (result.code !== 0) throw nftError(result, pieces);
}

/** `/dev/stdin:4:97-97: Error: syntax error, unexpected '}'`, with the line and a row of carets below. */
const LOCATED = /^\S+?:(\d+):(\d+)-\d+: Error: (.*)$/m;
const UNLOCATED = /^(?:netlink: )?Error: (.*)$/m;

export function nftError(
  { code, errors }: Pick<CommandResult, "code" | "errors">,
  pieces: readonly (string | Uint8Array)[],
): KernelError {
  const located = LOCATED.exec(errors);
  if (located !== null) {
    const [, line, column, reason = ""] = located;
    return new KernelError({
      program: "nft",
      reason: reason.replace(/^Could not process rule: /, ""),
      line: Number(line),
      text: excerptOf(pieces, Number(line), Number(column)),
    });
  }
  const reason = UNLOCATED.exec(errors)?.[1] ?? errors.trim().split("\n")[0];
  return new KernelError({ program: "nft", reason: reason || `it ended with code ${code}` });
}

/**
 * Chains, rules and declarations of a table, without elements and counters, as `nft` prints them; `undefined` where
 * there is no such table. Equal texts mean equal rules, as long as the same `nft` prints them.
 */
export async function listStructure(table: NftTable, options: NftOptions = {}): Promise<string | undefined> {
  const cut = new TableCut(table);
  const result = await runCommand("nft", ["-s", "-t", "-nn", "list", "ruleset", table.family], {
    timeoutMs: LIST_TIMEOUT_MS,
    ...options,
    onLine: (line) => cut.take(line),
  });
  if (result.code !== 0) throw nftError(result, []);
  return cut.text();
}

/**
 * The whole table with its elements, without counters. Costs a second for 50 000 elements: for audits and the start, never
 * for a change. `undefined`: there is no such table.
 */
export async function listTable(
  { family, name }: NftTable,
  options: NftOptions = {},
): Promise<Uint8Array | undefined> {
  const file = await spoolTable({ family, name }, options);
  try {
    return file?.whole();
  } finally {
    file?.close();
  }
}

/** The same in a file, which is the caller's to close; in the first folder that has room for it. */
export async function spoolTable(
  { family, name }: NftTable,
  { folders, ...options }: NftOptions & { readonly folders?: readonly string[] } = {},
): Promise<UnlinkedFile | undefined> {
  for (const file of UnlinkedFile.candidates(folders)) {
    let isWhole = false;
    try {
      const result = await runCommand("nft", ["-s", "-nn", "list", "table", family, name], {
        timeoutMs: LIST_TIMEOUT_MS,
        ...options,
        output: file,
      });
      if (result.errors.includes("No such file or directory")) return undefined;
      if (result.code !== 0) throw nftError(result, []);
      // nft ends well, too, where there is no room for what it prints.
      isWhole = file.endsWith("}\n");
      if (isWhole) return file;
    } finally {
      if (!isWhole) file.close();
    }
  }
  throw new CommandError(
    "nft",
    "output",
    `The listing of table ${family} ${name} found no room to be written to.`,
  );
}

/** Every table of both families that there is, whoever made it. */
export async function listTables(options: NftOptions = {}): Promise<readonly NftTable[]> {
  const tables: NftTable[] = [];
  const result = await runCommand("nft", ["-s", "-t", "-nn", "list", "ruleset"], {
    timeoutMs: LIST_TIMEOUT_MS,
    ...options,
    onLine: (line) => {
      const [, family, name] = /^table (ip6?) (\S+) \{$/.exec(line) ?? [];
      if (family !== undefined && name !== undefined) tables.push({ family: family as NftFamily, name });
    },
  });
  if (result.code !== 0) throw nftError(result, []);
  return tables;
}

/**
 * How a table goes: two transactions, whether it is there or not.
 *
 * A packet goes through the rules that it began with, but what it looks up is what stands at that moment. In a table that
 * goes all at once it can miss its Service in a map and still find the ClusterIP in a set, whose other ports are refused:
 * seen with Linux 6.18 in one of some thousand connections. So the rules go first.
 */
export function printRemoval({ family, name }: NftTable): readonly [emptying: string, removal: string] {
  // `add` first, so that it is no error where there is no such table: `destroy` is too new for nft 1.0.6.
  const add = `add table ${family} ${name}\n`;
  return [`${add}flush table ${family} ${name}\n`, `${add}delete table ${family} ${name}\n`];
}

/** Deletes the tables that are there, after their rules. */
export async function deleteTables(tables: readonly NftTable[], options: NftOptions = {}): Promise<void> {
  const removals = tables.map(printRemoval);
  await applyNft(
    removals.map(([emptying]) => emptying),
    options,
  );
  await applyNft(
    removals.map(([, removal]) => removal),
    options,
  );
}

/** The name of what stands beside a table, with all that is wanted, while that one is replaced as a whole. */
export function standInOf(name: string): string {
  return `${name}-stand-in`;
}

/** Cuts one table out of `list ruleset` as it comes. Other people's rules are dropped at once, however many they are. */
class TableCut {
  readonly #head: string;
  readonly #lines: string[] = [];
  #state: "before" | "inside" | "after" = "before";

  constructor({ family, name }: NftTable) {
    this.#head = `table ${family} ${name} {`;
  }

  take(line: string): void {
    if (this.#state === "before" && line === this.#head) this.#state = "inside";
    if (this.#state !== "inside") return;
    this.#lines.push(line);
    if (line === "}") this.#state = "after";
  }

  text(): string | undefined {
    return this.#state === "before" ? undefined : this.#lines.join("\n");
  }
}
