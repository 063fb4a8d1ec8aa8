/**
 * What other backends, and kube-proxy in any of its modes, have left on this node, and its removal.
 *
 * In: which backend is in use. Out: what was removed. Called when the rules that are to stay stand: until then the old ones serve, and
 * in the kernel whoever comes first translates a new connection, so both may stand for a moment. Translated connections
 * live in the connection table and go on without the rule that they were made by. Those through IPVS live in its own table
 * and end with the virtual server, so virtual servers are left until no connection is open; new ones do not get there.
 *
 * Only names that are known to be kube-proxy's or ours are touched. kubelet's own chains (KUBE-FIREWALL,
 * KUBE-KUBELET-CANARY, KUBE-MARK-DROP) and those of network policies (KUBE-ROUTER-…, KUBE-POD-FW-…) stay.
 */

import { existsSync } from "node:fs";
import type { IpFamily } from "../cluster/model.ts";
import type { BackendName } from "./backends/backend.ts";
import { NFT_TABLE } from "./backends/read-back.ts";
import { CommandError, type CommandOptions } from "./kernel/command.ts";
import {
  type IptablesPrograms,
  type IptablesVariant,
  planRemoval,
  removeChains,
  saveTables,
  systemVariant,
} from "./kernel/iptables.ts";
import { listServers, removeIpvs, removeOtherSets } from "./kernel/ipvs.ts";
import { deleteTables, listTables, standInOf } from "./kernel/nft.ts";
import { closeLoopback, type LoopbackGuard } from "./loopback.ts";
import { type SideRulesName, sideChain, sideTable } from "./side-rules/side-rules.ts";

/** Every rule set beside those of Services. */
const SIDE_RULES = ["snat", "hostports"] as const satisfies readonly SideRulesName[];

export type LeftoverOptions = Pick<CommandOptions, "through" | "signal"> & {
  /** `/proc/sys`, or what stands for it: where loopback is closed before its guards go. Absent: nowhere. */
  readonly procSys?: string;
};

export interface Removal {
  /** For people: `iptables chains (nft)`. */
  readonly removed: readonly string[];
  /** One sentence for what could not be removed; the rest was. */
  readonly problems: readonly string[];
  /** Connections through IPVS that are open: they would break with its virtual servers, which stay for them. */
  readonly openIpvsConnections: number;
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
/** What our IPVS backend has, by table (`wasm-nat/src/ipvs/rules.rs`). kube-proxy has some of these names in other tables. */
const OWN_OF_IPVS: Readonly<Record<string, RegExp>> = {
  mangle: /^KUBE-(?:PROXY-FIREWALL|SOURCE-RANGES-FIREWALL)$/,
  filter: /^KUBE-(?:IPVS-FILTER|NODE-PORT|FORWARD)$/,
  nat: /^KUBE-(?:SERVICES|CLUSTER-IP|LOAD-BALANCER|NODE-PORT|MARK-MASQ|POSTROUTING)$/,
};

/**
 * Removes what is not `keep`'s; with `undefined` everything that is ours or kube-proxy's. `sideRules` are in use, with the
 * backend that is kept.
 */
export async function removeLeftovers(
  keep: BackendName | undefined,
  sideRules: readonly SideRulesName[],
  options: LeftoverOptions = {},
): Promise<Removal> {
  // A stand-in is left where an agent was killed beside it; side rules in use look after their own.
  const tables = new Set([KUBE_PROXY_TABLE, standInOf(NFT_TABLE)]);
  if (keep !== "nftables") tables.add(NFT_TABLE);
  for (const name of SIDE_RULES)
    if (keep !== "nftables" || !sideRules.includes(name))
      tables.add(sideTable(name)).add(standInOf(sideTable(name)));
  const ipvs = keep === undefined ? "all" : keep === "ipvs" ? "other sets" : "all when idle";
  return remove(
    { tables, chains: (isSystem) => leftoverChains(isSystem ? keep : undefined, sideRules), ipvs },
    options,
  );
}

export interface OwnRemoval extends Removal {
  /** Chains of Services stand under names that kube-proxy has, too, and nothing tells whose they are. */
  readonly leftToKubeProxy: boolean;
}

/**
 * Removes what is Fairlead's and nothing that a kube-proxy serves by, whatever its mode.
 *
 * Our chains and virtual servers have kube-proxy's names, so they are whose who wrote last. A kube-proxy in its nftables mode
 * has removed those of its other modes when it started, so beside its table they are ours. Without its table they may be those
 * that a kube-proxy has taken over, in its iptables mode; in its IPVS mode it stumbles over the size of our sets.
 */
export async function removeOwn(options: LeftoverOptions = {}): Promise<OwnRemoval> {
  const tables = await listTables(options).catch((error: unknown) => {
    // Without nft there are none.
    if (error instanceof CommandError && error.reason === "missing") return [];
    throw error;
  });
  const standing = new Set(tables.map(({ name }) => name));
  const besideTable = standing.has(KUBE_PROXY_TABLE);
  const [chainsOfServices, removal] = await Promise.all([
    besideTable || standing.has(NFT_TABLE) ? false : hasChainsOfServices(options),
    remove(
      {
        tables: new Set([NFT_TABLE, ...SIDE_RULES.map(sideTable)].flatMap((name) => [name, standInOf(name)])),
        chains: () => (besideTable ? leftoverChains(undefined, []) : isOfSideRules),
        ipvs: besideTable ? "all when idle" : "none",
      },
      options,
    ),
  ]);
  return { ...removal, leftToKubeProxy: chainsOfServices };
}

interface Doomed {
  /** Names, in both families. */
  readonly tables: ReadonlySet<string>;
  /** `isSystem`: of the iptables variant that the system means by the plain name. */
  readonly chains: (isSystem: boolean) => ChainsToRemove["isLeftover"];
  readonly ipvs: "all" | "all when idle" | "other sets" | "none";
}

async function remove(doomed: Doomed, { procSys, ...options }: LeftoverOptions): Promise<Removal> {
  const removed: string[] = [];
  const problems: string[] = [];
  if (procSys !== undefined) {
    const isDoomed = (guard: LoopbackGuard): boolean =>
      guard.backend === "nftables"
        ? doomed.tables.has(NFT_TABLE)
        : doomed.chains(guard.isSystem)(guard.chain, "filter");
    const problem = await closeLoopback(isDoomed, { ...options, procSys });
    if (problem !== undefined) problems.push(problem);
  }
  let openIpvsConnections = 0;
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
    attempt("nftables tables", () => removeTables(doomed.tables, options)),
    (async () => {
      const chains = await chainsToRemove(doomed.chains, options);
      await Promise.all(
        chains.map(({ programs, isLeftover, what }) =>
          attempt(what, () => removeChains(programs, isLeftover, { ...options, isForOthers })),
        ),
      );
      if (doomed.ipvs === "none") return;
      // After the chains, which use the sets.
      if (doomed.ipvs === "other sets") {
        await attempt("ipsets", () => removeOtherSets(options));
        return;
      }
      // Without virtual servers sets and the link may be there all the same. Asking `ipvsadm` would load the module.
      if (!existsSync(IPVS_IS_LOADED)) {
        await attempt("ipsets", () => removeIpvs({ ...options, isLoaded: false }));
        return;
      }
      await attempt("IPVS virtual servers", async () => {
        if (doomed.ipvs === "all when idle") openIpvsConnections = countActive(await listServers(options));
        return openIpvsConnections === 0 && (await removeIpvs(options));
      });
    })(),
  ]);
  return { removed: [...new Set(removed)], problems, openIpvsConnections };
}

/**
 * CNI plug-ins send here what they translate themselves (`externalSetMarkChain` of `portmap`). Their rules are not ours to
 * delete, and a chain that they lead to cannot go. All our backends masquerade what has the mark.
 */
function isForOthers(chain: string): boolean {
  return chain === "KUBE-MARK-MASQ";
}

/** Of any network namespace. */
const IPVS_IS_LOADED = "/proc/net/ip_vs";

/** Of `ipvsadm -L -n`: `  -> 10.180.0.1:8080   Masq    1      2          0`, where the 2 is what counts. */
export function countActive(servers: string): number {
  return [...servers.matchAll(/^\s+-> \S+\s+\S+\s+\d+\s+(\d+)\s+\d+\s*$/gm)].reduce(
    (sum, [, active]) => sum + Number(active),
    0,
  );
}

async function removeTables(names: ReadonlySet<string>, options: LeftoverOptions): Promise<boolean> {
  const standing = (await listTables(options)).filter(({ name }) => names.has(name));
  if (standing.length > 0) await deleteTables(standing, options);
  return standing.length > 0;
}

interface ChainsToRemove {
  readonly what: string;
  readonly programs: IptablesPrograms;
  readonly isLeftover: (chain: string, table: string) => boolean;
}

async function chainsToRemove(
  chains: Doomed["chains"],
  options: LeftoverOptions,
): Promise<readonly ChainsToRemove[]> {
  const system = await systemVariant(options);
  const variants: readonly IptablesVariant[] = ["nft", "legacy"];
  const families: readonly IpFamily[] = ["IPv4", "IPv6"];
  return variants.flatMap((variant) =>
    families.map((family) => ({
      what: `iptables chains (${variant})`,
      // A system with one variant may have the plain names only.
      programs: variant === system ? { family } : { family, variant },
      // The plain programs are what is in use; the other variant's rules are all from before.
      isLeftover: chains(variant === system),
    })),
  );
}

async function hasChainsOfServices(options: LeftoverOptions): Promise<boolean> {
  const all = await chainsToRemove(() => isOfServices, options);
  const found = await Promise.all(
    all.map(async ({ programs, isLeftover }) => {
      // What is not installed has none.
      const saved = await saveTables(programs, options).catch(() => "");
      return planRemoval(saved, isLeftover) !== undefined;
    }),
  );
  return found.includes(true);
}

function isOfServices(chain: string): boolean {
  return IPTABLES_CHAIN.test(chain) || IPVS_CHAIN.test(chain);
}

function isOfSideRules(chain: string): boolean {
  return SIDE_RULES.some((name) => chain.startsWith(sideChain(name)));
}

/** Of a table's chains; `inUse`: the backend whose chains stay, with those of `sideRules`. */
export function leftoverChains(
  inUse: BackendName | undefined,
  sideRules: readonly SideRulesName[],
): ChainsToRemove["isLeftover"] {
  const unused = SIDE_RULES.filter((name) => !sideRules.includes(name)).map((name) => sideChain(name));
  const isUnused = (chain: string): boolean => unused.some((prefix) => chain.startsWith(prefix));
  switch (inUse) {
    case undefined:
    case "nftables":
      return (chain) => isOfServices(chain) || isOfSideRules(chain);
    case "iptables":
      // In mangle kube-proxy has a chain by which it notices that tables were flushed, and IPVS its own; ours are in nat
      // and filter.
      return (chain, table) =>
        (table === "mangle" ? isOfServices(chain) : IPVS_CHAIN.test(chain)) || isUnused(chain);
    case "ipvs":
      // The chains that both modes have in a table belong to the one that wrote them last.
      return (chain, table) => (isOfServices(chain) && !OWN_OF_IPVS[table]?.test(chain)) || isUnused(chain);
    default:
      return inUse satisfies never;
  }
}
