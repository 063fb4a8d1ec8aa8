/**
 * Small rule sets beside those of Services: outbound source addresses, host ports of Pods. Each is a table of its own in
 * nftables, or chains of its own in iptables' nat table, and is always written whole.
 *
 * Here: their shape, and how they are printed. A hash of the contents stands in a comment, so that a restart finds out
 * by reading whether there is anything to write. Not here: what the rules say (`outbound/`, `host-ports/`).
 */

import { createHash } from "node:crypto";
import type { IpFamily } from "../../cluster/model.ts";
import { type NftTable, printRemoval, standInOf } from "../kernel/nft.ts";

/** The rules of one family. */
export interface SideRules {
  /** nftables: maps, sets and chains that the base chains use. */
  readonly nftBody: string;
  /** nftables: the base chains, of which one is called at postrouting. */
  readonly nftBaseChains: string;
  /** iptables: chains of the nat table with their rules, without `-A CHAIN`. */
  readonly chains: readonly { readonly name: string; readonly rules: readonly string[] }[];
  /** iptables: jumps from the built-in chains, each with a comment, appended: what others have decided goes first. */
  readonly jumps: readonly { readonly builtin: string; readonly rule: string }[];
}

/** The names of a rule set: `fairlead-NAME` in nftables, chains `FAIRLEAD-NAME…` in iptables. */
export type SideRulesName = "snat" | "hostports";

export function sideTable(name: SideRulesName): string {
  return `fairlead-${name}`;
}

export function sideChain(name: SideRulesName, part = ""): string {
  return `FAIRLEAD-${name.toUpperCase()}${part}`;
}

export function hashOf(rules: SideRules): string {
  return createHash("sha256").update(JSON.stringify(rules)).digest("hex").slice(0, 12);
}

/** Of the table, by which a restart knows it. */
export function nftComment(rules: SideRules): string {
  return `fairlead ${hashOf(rules)}`;
}

export function sideTableOf(name: SideRulesName, family: IpFamily): NftTable {
  return { family: family === "IPv4" ? "ip" : "ip6", name: sideTable(name) };
}

/** Names of the tables of a family that stand. */
export type StandingTables = ReadonlySet<string>;

/**
 * The transactions for `nft -f -` by which one family's table comes, goes or is replaced; empty where there is nothing to do.
 * Those at one place may go together with the other family's. `undefined` rules: the table goes.
 *
 * A table that serves is not replaced in one transaction: a packet that begins with the old rules would look up in new
 * maps, and miss. Another table, of the same content as the new one, stands beside them meanwhile. Nor does a table come
 * in one: for a moment after it, Linux 6.18 finds nothing in its sets of ranges. So what leads packets there comes last.
 */
export function printNft(
  name: SideRulesName,
  family: IpFamily,
  rules: SideRules | undefined,
  standing: StandingTables,
): readonly string[] {
  const table = sideTableOf(name, family);
  const standIn: NftTable = { ...table, name: standInOf(table.name) };
  const [emptying, removal] = printRemoval(table);
  const [standInEmptying, standInRemoval] = printRemoval(standIn);
  const print = (one: NftTable): readonly [body: string, baseChains: string] => {
    if (rules === undefined) return ["", ""];
    const head = `table ${one.family} ${one.name} {\n`;
    const body = `${head}\tcomment "${nftComment(rules)}"\n${rules.nftBody}}\n`;
    return [body, `${head}${rules.nftBaseChains}}\n`];
  };
  const stands = standing.has(table.name);
  const isReplaced = stands && rules !== undefined;
  const [body, baseChains] = print(table);
  const [standInBody, standInBaseChains] = print(standIn);
  return [
    ...(isReplaced ? [standInRemoval + standInBody, standInBaseChains] : ["", ""]),
    stands ? emptying : "",
    (stands ? removal : "") + body,
    baseChains,
    ...(isReplaced || standing.has(standIn.name) ? [standInEmptying, standInRemoval] : []),
  ];
}

/** What `iptables-save -t nat` shows of a rule set: the rules of its chains, and the jumps that bear its name. */
export interface PrintedRules {
  readonly chains: readonly string[];
  readonly jumps: readonly string[];
}

export function printedRules(rules: SideRules, saved: string): PrintedRules {
  const lines = saved.split("\n");
  return {
    chains: rules.chains.flatMap(({ name }) => lines.filter((line) => line.startsWith(`-A ${name} `))),
    jumps: lines.filter((line) => rules.jumps.some((jump) => isJump(line, jump))),
  };
}

/**
 * Input of `iptables-restore --noflush`: chains are filled anew, jumps are added where `saved` (`iptables-save -t nat`) has
 * none. `undefined`: nothing to write, and the kernel holds it all. Chains that are no longer wanted are another removal.
 * With `written`, what the kernel showed after the last write, a rule that was put in another one's place counts, too.
 */
export function printIptables(
  rules: SideRules,
  saved: string,
  written: PrintedRules | undefined,
): string | undefined {
  const held = printedRules(rules, saved);
  const stamp = `-m comment --comment "fairlead ${hashOf(rules)}"`;
  const isFilled =
    rules.chains.every(({ name, rules: own }) => {
      const ofChain = held.chains.filter((line) => line.startsWith(`-A ${name} `));
      return ofChain.length === own.length + 1 && ofChain[0] === `-A ${name} ${stamp}`;
    }) &&
    (written === undefined || written.chains.join("\n") === held.chains.join("\n"));
  const forged = held.jumps.filter((line) => written?.jumps.includes(line) === false);
  const missing = rules.jumps.filter(
    (jump) => !held.jumps.some((line) => isJump(line, jump) && !forged.includes(line)),
  );
  if (isFilled && missing.length === 0 && forged.length === 0) return undefined;
  return [
    "*nat",
    ...rules.chains.map(({ name }) => `:${name} - [0:0]`),
    ...rules.chains.flatMap(({ name, rules: own }) => [
      `-A ${name} ${stamp}`,
      ...own.map((rule) => `-A ${name} ${rule}`),
    ]),
    ...forged.map((line) => line.replace("-A", "-D")),
    ...missing.map(({ builtin, rule }) => `-A ${builtin} ${rule}`),
    "COMMIT\n",
  ].join("\n");
}

/** By its comment and its target; what else it says may be printed otherwise than it was written. */
function isJump(line: string, { builtin, rule }: SideRules["jumps"][number]): boolean {
  const [comment = ""] = /--comment "[^"]+"/.exec(rule) ?? [];
  return (
    line.startsWith(`-A ${builtin} `) &&
    line.includes(comment) &&
    line.endsWith(rule.slice(rule.lastIndexOf(" -j ")))
  );
}
