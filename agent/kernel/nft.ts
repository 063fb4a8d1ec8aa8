/**
 * nftables through `nft`: applies transactions, and reads back what stands in a table.
 *
 * In: transactions, each of which the kernel takes whole or not at all. Out: nothing, or a `KernelError`. Nothing is
 * decided here.
 *
 * What costs how much was measured with nft 1.0.6 and 150 000 elements in maps: changing elements 8 to 40 ms,
 * `list chains` and `-t list ruleset` 6 ms, but `list tables`, `list chain` and `-t list table` 3 s, because the
 * program fetches every element of the table and then prints none. So structure is read by `-t list ruleset`. That one reads
 * everybody's rules, of either family: beside 147 000 of iptables it takes 6 s, and `list chains` 0.2 s.
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

/** `folders`: for what `nft` prints. */
export type SpoolOptions = NftOptions & { readonly folders?: readonly string[] };

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
 * Chains, rules and declarations of each table, without elements, and without `counters` unless they are asked for, as `nft`
 * prints them; `undefined` where there is no such table. Equal texts mean equal rules, as long as the same `nft` prints them.
 */
export async function listStructures(
  tables: readonly NftTable[],
  { counters = false, ...options }: SpoolOptions & { readonly counters?: boolean } = {},
): Promise<readonly (string | undefined)[]> {
  const everything = await printed([...(counters ? [] : ["-s"]), "-t", "-nn", "list", "ruleset"], options);
  return tables.map((table) => cut(everything, table));
}

/** The same of one table. */
export async function listStructure(
  table: NftTable,
  options: Parameters<typeof listStructures>[1] = {},
): Promise<string | undefined> {
  return (await listStructures([table], options))[0];
}

/**
 * The whole table with its elements, without counters. Costs a second for 50 000 elements: for audits and the start, never
 * for a change. `undefined`: there is no such table.
 */
export async function listTable(
  { family, name }: NftTable,
  options: SpoolOptions = {},
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
  options: SpoolOptions = {},
): Promise<UnlinkedFile | undefined> {
  const listing = await spool(["-s", "-nn", "list", "table", family, name], options);
  if (listing === "no room" || listing === "nothing") throw noRoom(`table ${family} ${name}`);
  return listing === "not there" ? undefined : listing;
}

/** Every table of both families that there is, whoever made it. */
export async function listTables(options: SpoolOptions = {}): Promise<readonly NftTable[]> {
  const chains = await printed(["-nn", "list", "chains"], options);
  return [...chains.matchAll(/^table (ip6?) (\S+) \{$/gm)].map(
    ([, family, name = ""]): NftTable => ({ family: family === "ip" ? "ip" : "ip6", name }),
  );
}

/** What `nft` prints of everybody's tables; nothing where there are none. */
async function printed(args: readonly string[], options: SpoolOptions): Promise<string> {
  const listing = await spool(args, options);
  if (listing === "no room") throw noRoom("all tables");
  if (typeof listing === "string") return "";
  try {
    return listing.whole().toString("utf8");
  } finally {
    listing.close();
  }
}

/**
 * What `nft` prints, in a file that is the caller's to close: it writes a listing word by word, each of which would be a turn
 * of the event loop if it came through a pipe. In the first folder that has room for it.
 */
async function spool(
  args: readonly string[],
  { folders, ...options }: SpoolOptions,
): Promise<UnlinkedFile | "not there" | "nothing" | "no room"> {
  let wasCut = false;
  for (const file of UnlinkedFile.candidates(folders)) {
    let isWhole = false;
    try {
      const result = await runCommand("nft", args, { timeoutMs: LIST_TIMEOUT_MS, ...options, output: file });
      if (result.errors.includes("No such file or directory")) return "not there";
      if (result.code !== 0) throw nftError(result, []);
      // nft ends well, too, where there is no room for what it prints.
      isWhole = file.endsWith(END_OF_TABLE);
      if (isWhole) return file;
      wasCut ||= !file.isEmpty();
    } finally {
      if (!isWhole) file.close();
    }
  }
  return wasCut ? "no room" : "nothing";
}

function noRoom(what: string): CommandError {
  return new CommandError("nft", "output", `The listing of ${what} found no room to be written to.`);
}

/** One table out of `list ruleset`. Within a table every line is indented. */
function cut(ruleset: string, { family, name }: NftTable): string | undefined {
  return new RegExp(`^table ${family} ${name} \\{\\n[^]*?^\\}\\n`, "m").exec(ruleset)?.[0];
}

const END_OF_TABLE = "\n}\n";

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
