/**
 * Keeps one side rule set in the kernel: writes it when it changes, and looks whether it still stands. What was written for
 * another kind of backend is a leftover (`leftovers.ts`).
 *
 * In: what is wanted, by family; `undefined` for nothing. Out: writes. One at a time; the newest wanted state counts.
 */

import type { IpFamily } from "../../cluster/model.ts";
import type { BackendName } from "../backends/backend.ts";
import { planRemoval, restoreIptables, saveIptables } from "../kernel/iptables.ts";
import { applyNft, listTable, listTables, type NftTable } from "../kernel/nft.ts";
import type { KernelOptions } from "../kernel/transactions.ts";
import {
  type PrintedRules,
  printedRules,
  printIptables,
  printNft,
  type SideRules,
  type SideRulesName,
  sideChain,
  sideTable,
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
      const text = (await this.#nftTransaction()).text;
      return text === "" ? [] : [{ program: "nft", text }];
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
      const { text, written } = await this.#nftTransaction();
      if (text !== "") await applyNft([text], kernel);
      for (const family of written) await this.#remember(family);
      return text !== "";
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

  async #nftTransaction(): Promise<{ readonly text: string; readonly written: readonly IpFamily[] }> {
    const { name, families, kernel = {} } = this.#options;
    const standing = new Set(
      (await listTables(kernel)).map(({ family, name: table }) => `${family} ${table}`),
    );
    let text = "";
    const written: IpFamily[] = [];
    for (const family of families) {
      const table = this.#table(family);
      const rules = this.#wanted[family];
      const stands = standing.has(`${table.family} ${table.name}`);
      if (rules === undefined) {
        if (stands) text += printNft(name, family, undefined);
        this.#printed.delete(family);
        continue;
      }
      const print = printNft(name, family, rules);
      const comment = /comment "(fairlead [0-9a-f]+)"/.exec(print)?.[1] ?? "";
      const held = stands ? await this.#print(table) : "";
      // Ours by its comment, and nobody has touched it since it was written; after a start the comment has to do.
      const remembered = this.#printed.get(family);
      if (held.includes(comment) && (remembered === undefined || remembered === held)) {
        this.#printed.set(family, held);
        continue;
      }
      text += print;
      written.push(family);
    }
    return { text, written };
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
    this.#printed.set(family, await this.#print(this.#table(family)));
  }

  #table(family: IpFamily): NftTable {
    return { family: family === "IPv4" ? "ip" : "ip6", name: sideTable(this.#options.name) };
  }

  async #print(table: NftTable): Promise<string> {
    return new TextDecoder().decode(await listTable(table, this.#options.kernel));
  }
}
