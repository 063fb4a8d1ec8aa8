/**
 * Keeps one side rule set in the kernel: writes it when it changes, and looks whether it still stands. What was written for
 * another kind of backend is a leftover (`leftovers.ts`).
 *
 * In: what is wanted, by family; `undefined` for nothing. Out: writes. One at a time; the newest wanted state counts.
 */

import type { IpFamily } from "../../cluster/model.ts";
import type { BackendName } from "../backends/backend.ts";
import { planRemoval, restoreIptables, saveIptables } from "../kernel/iptables.ts";
import { applyNft, listTable, listTables } from "../kernel/nft.ts";
import type { KernelOptions } from "../kernel/transactions.ts";
import {
  nftComment,
  type PrintedRules,
  printedRules,
  printIptables,
  printNft,
  type SideRules,
  type SideRulesName,
  sideChain,
  sideTableOf,
} from "./side-rules.ts";

export type SideRulesByFamily = Readonly<Partial<Record<IpFamily, SideRules | undefined>>>;

export interface SideRulesKeeperOptions {
  readonly name: SideRulesName;
  readonly backend: BackendName;
  readonly families: readonly IpFamily[];
  readonly kernel?: KernelOptions;
}

export class SideRulesKeeper {
  readonly #options: SideRulesKeeperOptions;
  #wanted: SideRulesByFamily = {};
  /** nftables: each table as `nft` printed it after it was written. */
  readonly #printed = new Map<IpFamily, string>();
  /** iptables: the rules as `iptables-save` printed them after they were written. */
  readonly #printedRules = new Map<IpFamily, PrintedRules>();

  constructor(options: SideRulesKeeperOptions) {
    this.#options = options;
  }

  want(rules: SideRulesByFamily): void {
    this.#wanted = rules;
  }

  /** What `write` would apply, as the programs read it. */
  async plan(): Promise<
    readonly { readonly program: "nft" | "iptables-restore" | "ip6tables-restore"; readonly text: string }[]
  > {
    const { name, backend, families } = this.#options;
    if (backend === "nftables") {
      const { texts } = await this.#nftTransactions();
      return texts.map((text) => ({ program: "nft", text }));
    }
    const plans = await Promise.all(
      families.map(async (family) => ({
        program: family === "IPv4" ? ("iptables-restore" as const) : ("ip6tables-restore" as const),
        text: await this.#iptablesTransaction(family, name),
      })),
    );
    return plans.flatMap(({ program, text }) => (text === undefined ? [] : [{ program, text }]));
  }

  /** Brings the kernel to what is wanted, whatever it holds. True: something was written. */
  async write(): Promise<boolean> {
    const { name, backend, families, kernel = {} } = this.#options;
    if (backend === "nftables") {
      const { texts, written } = await this.#nftTransactions();
      for (const text of texts) await applyNft([text], kernel);
      for (const family of written) await this.#remember(family);
      return texts.length > 0;
    }
    let wrote = false;
    for (const family of families) {
      const text = await this.#iptablesTransaction(family, name);
      if (text === undefined) continue;
      await restoreIptables({ family }, [text], kernel);
      const rules = this.#wanted[family];
      if (rules === undefined) this.#printedRules.delete(family);
      else this.#printedRules.set(family, printedRules(rules, await this.#save(family)));
      wrote = true;
    }
    return wrote;
  }

  async #nftTransactions(): Promise<{
    readonly texts: readonly string[];
    readonly written: readonly IpFamily[];
  }> {
    const { name, families, kernel = {} } = this.#options;
    const tables = await listTables(kernel);
    const texts: string[] = [];
    const written: IpFamily[] = [];
    for (const family of families) {
      const table = sideTableOf(name, family);
      const rules = this.#wanted[family];
      const standing = new Set(tables.filter((one) => one.family === table.family).map((one) => one.name));
      const isHeld = rules !== undefined && standing.has(table.name) && (await this.#isHeld(family, rules));
      if (rules === undefined) this.#printed.delete(family);
      else if (!isHeld) written.push(family);
      // What is held has no need of a stand-in that somebody was killed beside.
      else standing.delete(table.name);
      const steps = printNft(name, family, isHeld ? undefined : rules, standing);
      for (const [place, step] of steps.entries()) texts[place] = (texts[place] ?? "") + step;
    }
    return { texts: texts.filter((text) => text !== ""), written };
  }

  /** Ours by its comment, and nobody has touched it since it was written; after a start the comment has to do. */
  async #isHeld(family: IpFamily, rules: SideRules): Promise<boolean> {
    const held = await this.#print(family);
    const remembered = this.#printed.get(family);
    // Without base chains it is one that somebody was killed while writing.
    const isWhole = held.includes(`comment "${nftComment(rules)}"`) && held.includes("hook postrouting");
    if (!isWhole || (remembered ?? held) !== held) return false;
    this.#printed.set(family, held);
    return true;
  }

  async #iptablesTransaction(family: IpFamily, name: SideRulesName): Promise<string | undefined> {
    const saved = await this.#save(family);
    const rules = this.#wanted[family];
    if (rules === undefined) return planRemoval(saved, (chain) => chain.startsWith(sideChain(name)));
    const text = printIptables(rules, saved, this.#printedRules.get(family));
    if (text === undefined) this.#printedRules.set(family, printedRules(rules, saved));
    return text;
  }

  #save(family: IpFamily): Promise<string> {
    return saveIptables({ family }, "nat", this.#options.kernel ?? {});
  }

  async #remember(family: IpFamily): Promise<void> {
    this.#printed.set(family, await this.#print(family));
  }

  async #print(family: IpFamily): Promise<string> {
    const table = sideTableOf(this.#options.name, family);
    return new TextDecoder().decode(await listTable(table, this.#options.kernel));
  }
}
