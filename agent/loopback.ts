/**
 * Closing loopback again. Node ports at 127.0.0.1 need `route_localnet`, under which the node takes packets to 127.0.0.0/8 from
 * everywhere, and a rule that keeps others out (CVE-2020-8558): ours, kube-proxy's or kubelet's. Where the last such rule
 * is about to go, the setting goes first. Whoever needs it sets it again.
 *
 * In: which rules are to go. Out: a sentence where loopback would be left open.
 */

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NFT_TABLE } from "./backends/read-back.ts";
import type { CommandOptions } from "./kernel/command.ts";
import { type IptablesPrograms, type IptablesVariant, saveTables, systemVariant } from "./kernel/iptables.ts";
import { listStructure } from "./kernel/nft.ts";

/** Where a rule stands that keeps others from 127.0.0.0/8. */
export type LoopbackGuard =
  | { readonly backend: "nftables" }
  | {
      readonly backend: "iptables";
      /** Of the iptables variant that the system means by the plain name. */
      readonly isSystem: boolean;
      readonly chain: string;
    };

export type LoopbackOptions = Pick<CommandOptions, "through" | "signal"> & {
  /** `/proc/sys`, or what stands for it. */
  readonly procSys: string;
};

const SETTING = "net/ipv4/conf/all/route_localnet";
/** `wasm-nat/src/nftables/rules.rs`. */
const GUARD_CHAIN = /^\tchain loopback-guard \{$/m;
/** kube-proxy's and kubelet's words, and those of our iptables backend. */
const GUARD_RULE = /^-A (\S+) .*--comment "block incoming localnet connections" .*-j DROP$/gm;

/** `isDoomed`: it is about to go. A setting that nobody guards is somebody else's, and stays. */
export async function closeLoopback(
  isDoomed: (guard: LoopbackGuard) => boolean,
  { procSys, ...options }: LoopbackOptions,
): Promise<string | undefined> {
  const path = join(procSys, SETTING);
  const value = await readFile(path, "utf8").catch(() => "");
  if (value.trim() !== "1") return undefined;
  const guards = await standingGuards(options);
  if (guards.length === 0 || !guards.every(isDoomed)) return undefined;
  try {
    await writeFile(path, "0");
    return undefined;
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : String(error);
    return `sysctl ${SETTING.replaceAll("/", ".")} stays 1 (${reason}), so what listens at 127.0.0.1 of this node can be reached from other machines: set it to 0.`;
  }
}

async function standingGuards(options: Omit<LoopbackOptions, "procSys">): Promise<readonly LoopbackGuard[]> {
  const system = await systemVariant(options);
  const [structure, ...saved] = await Promise.all([
    listStructure({ family: "ip", name: NFT_TABLE }, options).catch(() => undefined),
    ...(["nft", "legacy"] as const satisfies readonly IptablesVariant[]).map(async (variant) => {
      const programs: IptablesPrograms =
        variant === system ? { family: "IPv4" } : { family: "IPv4", variant };
      // What is not installed has no rules.
      const text = await saveTables(programs, options).catch(() => "");
      return [...text.matchAll(GUARD_RULE)].map(
        ([, chain = ""]): LoopbackGuard => ({ backend: "iptables", isSystem: variant === system, chain }),
      );
    }),
  ]);
  return [
    ...(structure !== undefined && GUARD_CHAIN.test(structure) ? [{ backend: "nftables" } as const] : []),
    ...saved.flat(),
  ];
}
