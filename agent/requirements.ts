/**
 * What a backend needs of this node: programs, rights, and parts of the kernel.
 *
 * In: the backend and the families. Out: one sentence that says what is missing and what would help, or nothing.
 * The kernel is asked by transactions that it checks and does not keep, so a module that has to be loaded is loaded, and
 * what works in a container is judged in that container.
 */

import type { IpFamily } from "../cluster/model.ts";
import type { BackendName } from "./backends/backend.ts";
import { CommandError, type CommandOptions, runCommand } from "./kernel/command.ts";
import { type IptablesVariant, programName } from "./kernel/iptables.ts";

export type ProbeOptions = Pick<CommandOptions, "through" | "signal">;

export interface Needs {
  readonly backend: BackendName;
  readonly families: readonly IpFamily[];
  readonly variant?: IptablesVariant | undefined;
}

/** Oldest nft that reads what we write; kube-proxy asks for the same. */
const OLDEST_NFT = [1, 0, 1] as const;
const PROBE_TIMEOUT_MS = 20_000;

/** One sentence, or `undefined`: the backend can work here. */
export async function findObstacle(needs: Needs, options: ProbeOptions = {}): Promise<string | undefined> {
  try {
    switch (needs.backend) {
      case "nftables":
        return await firstOf([obstacleOfNft(options), obstacleOfNftKernel(needs.families, options)]);
      case "iptables":
        return await obstacleOfIptables(needs, options);
      case "ipvs":
        return await firstOf([obstacleOfIptables(needs, options), obstacleOfIpvs(options)]);
      default:
        return needs.backend satisfies never;
    }
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return error.reason === "missing"
      ? `The ${needs.backend} backend needs ${error.program}, which is not installed.`
      : error.message;
  }
}

/** Asks everything at once, which nearly always finds nothing; of several obstacles the first is told. */
async function firstOf(looks: readonly Promise<string | undefined>[]): Promise<string | undefined> {
  return (await Promise.all(looks)).find((obstacle) => obstacle !== undefined);
}

export interface UsableFamilies {
  readonly families: readonly IpFamily[];
  /** One sentence for each family that cannot be programmed here. */
  readonly obstacles: readonly string[];
}

/**
 * The families that can be programmed here. A kernel or a container without IPv6 serves IPv4 all the same; what is wrong
 * with both is told once.
 */
export async function usableFamilies(
  backend: BackendName,
  options: ProbeOptions = {},
): Promise<UsableFamilies> {
  const all: readonly IpFamily[] = ["IPv4", "IPv6"];
  // Nearly always everything works, and then one look is enough.
  const obstacle = await findObstacle({ backend, families: all }, options);
  if (obstacle === undefined) return { families: all, obstacles: [] };
  const found = await Promise.all(
    all.map(async (family) => ({
      family,
      obstacle: await findObstacle({ backend, families: [family] }, options),
    })),
  );
  return {
    families: found.filter((one) => one.obstacle === undefined).map(({ family }) => family),
    obstacles: [...new Set(found.flatMap((one) => one.obstacle ?? []))],
  };
}

/** Without it everything works but the removal of stale UDP flows. */
export async function findConntrackObstacle(options: ProbeOptions = {}): Promise<string | undefined> {
  const consequence = "stale UDP flows cannot be removed";
  try {
    const { code, errors } = await probe("conntrack", ["-C"], options);
    return code === 0 ? undefined : `conntrack does not work, so ${consequence}: ${firstLine(errors)}.`;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return `conntrack is not installed, so ${consequence}.`;
  }
}

async function obstacleOfNft(options: ProbeOptions): Promise<string | undefined> {
  const { output } = await probe("nft", ["--version"], options);
  const version = /v(\d+)\.(\d+)\.(\d+)/.exec(output)?.slice(1).map(Number);
  if (version === undefined) return `nft tells no version that can be read: ${firstLine(output)}.`;
  const differing = OLDEST_NFT.findIndex((part, index) => part !== version[index]);
  if (differing < 0 || (version[differing] ?? 0) > (OLDEST_NFT[differing] ?? 0)) return undefined;
  return `nft ${version.join(".")} is too old: ${OLDEST_NFT.join(".")} or newer is needed, or --backend iptables.`;
}

/** What the rules are made of, and the module that has it. */
const NFT_FEATURES = [
  { what: "address translation", module: "nft_nat", chain: "type nat hook prerouting priority -100;" },
  {
    what: "masquerading",
    module: "nft_masq",
    chain: "type nat hook postrouting priority 100; masquerade fully-random",
  },
  { what: "random choice", module: "nft_numgen", chain: "meta mark set numgen random mod 2" },
  { what: "routing look-ups", module: "nft_fib", chain: "fib daddr type local accept" },
  {
    what: "rejecting",
    module: "nft_reject",
    chain: "type filter hook forward priority 0; ct state new reject",
  },
] as const;

async function obstacleOfNftKernel(
  families: readonly IpFamily[],
  options: ProbeOptions,
): Promise<string | undefined> {
  const table = (family: IpFamily, features: readonly (typeof NFT_FEATURES)[number][]): string =>
    `table ${family === "IPv4" ? "ip" : "ip6"} fairlead-probe {\n${features.map(({ chain }, index) => `chain c${index} { ${chain}; }\n`).join("")}}\n`;
  const check = (...tables: readonly string[]): ReturnType<typeof probe> =>
    probe("nft", ["-c", "-f", "-"], options, tables);
  // Nearly always everything works, and then one look is enough.
  const all = await check(...families.map((family) => table(family, NFT_FEATURES)));
  if (all.code === 0) return undefined;
  if (all.errors.includes("Operation not permitted")) return NOT_ROOT;
  for (const family of families) {
    const whole = await check(table(family, NFT_FEATURES));
    if (whole.code === 0) continue;
    for (const feature of NFT_FEATURES) {
      const { code, errors } = await check(table(family, [feature]));
      if (code === 0) continue;
      return `The kernel has no ${feature.what} in nftables for ${family} (module ${feature.module}): ${reasonOf(errors)}.`;
    }
    return `The kernel does not take nftables rules for ${family}: ${reasonOf(whole.errors)}.`;
  }
  return undefined;
}

const NOT_ROOT = "Rules can be changed by root, or with CAP_NET_ADMIN, only.";

async function obstacleOfIptables(
  { families, variant }: Needs,
  options: ProbeOptions,
): Promise<string | undefined> {
  const obstacleOf = async (family: IpFamily, table: "nat" | "filter"): Promise<string | undefined> => {
    const program = programName({ family, variant }, "save");
    const { code, errors } = await probe(program, ["-t", table], options);
    if (code === 0) return undefined;
    if (/you must be root|Permission denied/.test(errors)) return NOT_ROOT;
    return `The kernel has no iptables table ${table} for ${family} (${program}): ${firstLine(errors)}.`;
  };
  return firstOf(families.flatMap((family) => [obstacleOf(family, "nat"), obstacleOf(family, "filter")]));
}

/**
 * Has the kernel load what it has settings of: they are there once it is, and whoever asks a module something has it loaded.
 * What does not work is told when rules are to be written.
 */
export async function loadModules(backend: BackendName, options: ProbeOptions = {}): Promise<void> {
  await Promise.allSettled([
    findConntrackObstacle(options),
    ...(backend === "ipvs" ? [obstacleOfIpvs(options)] : []),
  ]);
}

async function obstacleOfIpvs(options: ProbeOptions): Promise<string | undefined> {
  await probe("ipset", ["version"], options);
  const { code, errors } = await probe("ipvsadm", ["-L", "-n"], options);
  if (code === 0) return undefined;
  if (/must be root|Permission denied/.test(errors)) return NOT_ROOT;
  return `The kernel has no IPVS (module ip_vs): ${firstLine(errors)}.`;
}

function probe(
  program: string,
  args: readonly string[],
  options: ProbeOptions,
  input?: readonly string[],
): ReturnType<typeof runCommand> {
  return runCommand(program, args, { timeoutMs: PROBE_TIMEOUT_MS, ...options, input });
}

function reasonOf(errors: string): string {
  return (/Error: (?:Could not process rule: )?(.*)/.exec(errors)?.[1] ?? firstLine(errors)).replace(
    /\.$/,
    "",
  );
}

function firstLine(text: string): string {
  const line = text.split("\n").find((candidate) => candidate.trim() !== "") ?? "it said nothing";
  return line.trim().replace(/\.$/, "");
}
