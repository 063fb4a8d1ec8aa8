/**
 * What other backends, and kube-proxy in any of its modes, have left on this node, and its removal.
 *
 * In: which backend is in use. Out: what was removed. Called when our own rules stand: until then the old ones serve, and
 * in the kernel whoever comes first translates a new connection, so both may stand for a moment. Translated connections
 * live in the connection table and go on without the rule that they were made by.
 *
 * Only names that are known to be kube-proxy's or ours are touched. kubelet's own chains (KUBE-FIREWALL,
 * KUBE-KUBELET-CANARY, KUBE-MARK-DROP) and those of network policies (KUBE-ROUTER-…, KUBE-POD-FW-…) stay.
 */

import type { IpFamily } from "../cluster/model.ts";
import type { BackendName } from "./backends/backend.ts";
import { NFT_TABLE } from "./backends/read-back.ts";
import { CommandError, type CommandOptions } from "./kernel/command.ts";
import {
  type IptablesPrograms,
  type IptablesVariant,
  removeChains,
  systemVariant,
} from "./kernel/iptables.ts";
import { removeIpvs } from "./kernel/ipvs.ts";
import { deleteTables, listTables } from "./kernel/nft.ts";

export type LeftoverOptions = Pick<CommandOptions, "through" | "signal">;

export interface Removal {
  /** For people: `iptables chains (nft)`. */
  readonly removed: readonly string[];
  /** One sentence for what could not be removed; the rest was. */
  readonly problems: readonly string[];
}

/** The table of kube-proxy's nftables mode. */
const KUBE_PROXY_TABLE = "kube-proxy";

/**
 * Chains of kube-proxy's iptables mode, and those of Fairlead's, which has the same names so that either can take over from
 * the other without a gap.
 */
const IPTABLES_CHAIN =
  /^KUBE-(?:SERVICES|EXTERNAL-SERVICES|NODEPORTS|POSTROUTING|FORWARD|PROXY-FIREWALL|MARK-MASQ|MARK-REMOTE|PROXY-CANARY|(?:SVC|SVL|EXT|FW|SEP|XLB)-\S+)$/;
/** What the IPVS mode has beside them. */
const IPVS_CHAIN =
  /^KUBE-(?:CLUSTER-IP|LOAD-BALANCER|NODE-PORT|SOURCE-RANGES-FIREWALL|IPVS-FILTER|IPVS-OUT-FILTER)$/;
/** Of the chains above those that the IPVS mode has no use for. */
const NOT_OF_IPVS = /^KUBE-(?:PROXY-CANARY|MARK-REMOTE|(?:SVC|SVL|EXT|FW|SEP|XLB)-\S+)$/;

/** Removes what is not `keep`'s; with `undefined` everything that is ours or kube-proxy's. */
export async function removeLeftovers(
  keep: BackendName | undefined,
  options: LeftoverOptions = {},
): Promise<Removal> {
  const removed: string[] = [];
  const problems: string[] = [];
  const attempt = async (what: string, remove: () => Promise<boolean>): Promise<void> => {
    try {
      if (await remove()) removed.push(what);
    } catch (error) {
      // What is not installed has left nothing.
      if (error instanceof CommandError && error.reason === "missing") return;
      const reason = error instanceof Error ? error.message : String(error);
      problems.push(`Leftovers (${what}) could not be removed: ${reason}`);
    }
  };
  await Promise.all([
    attempt("nftables tables", () => removeTables(keep, options)),
    (async () => {
      for (const { programs, isLeftover, what } of await chainsToRemove(keep, options))
        await attempt(what, () => removeChains(programs, isLeftover, options));
      // After the chains, which use the sets.
      if (keep !== "ipvs") await attempt("IPVS virtual servers", () => removeIpvs(options));
    })(),
  ]);
  return { removed: [...new Set(removed)], problems };
}

async function removeTables(keep: BackendName | undefined, options: LeftoverOptions): Promise<boolean> {
  const isLeftover = (name: string): boolean =>
    name === KUBE_PROXY_TABLE || (name === NFT_TABLE && keep !== "nftables");
  const leftovers = (await listTables(options)).filter(({ name }) => isLeftover(name));
  if (leftovers.length > 0) await deleteTables(leftovers, options);
  return leftovers.length > 0;
}

interface ChainsToRemove {
  readonly what: string;
  readonly programs: IptablesPrograms;
  readonly isLeftover: (chain: string) => boolean;
}

async function chainsToRemove(
  keep: BackendName | undefined,
  options: LeftoverOptions,
): Promise<readonly ChainsToRemove[]> {
  const system = await systemVariant(options);
  const variants: readonly IptablesVariant[] = ["nft", "legacy"];
  const families: readonly IpFamily[] = ["IPv4", "IPv6"];
  return variants.flatMap((variant) =>
    families.map((family) => {
      // The plain programs are what is in use; the other variant's rules are all from before.
      const inUse = variant === system && keep !== undefined && keep !== "nftables" ? keep : undefined;
      return {
        what: `iptables chains (${variant})`,
        // A system with one variant may have the plain names only.
        programs: variant === system ? { family } : { family, variant },
        isLeftover: leftoverChains(inUse),
      };
    }),
  );
}

/** `inUse`: the backend whose chains stay. */
function leftoverChains(inUse: "iptables" | "ipvs" | undefined): (chain: string) => boolean {
  switch (inUse) {
    case undefined:
      return (chain) => IPTABLES_CHAIN.test(chain) || IPVS_CHAIN.test(chain);
    case "iptables":
      return (chain) => IPVS_CHAIN.test(chain);
    case "ipvs":
      // The chains that both modes have belong to the one that wrote them last.
      return (chain) => NOT_OF_IPVS.test(chain);
    default:
      return inUse satisfies never;
  }
}
