/**
 * IPVS through `ipvsadm`, and what belongs to it: ipsets, the dummy link that holds the virtual addresses, and rules of
 * iptables around them. Applied, read back and removed here. Nothing is decided here.
 *
 * In: transactions. Out: nothing, or a `KernelError`; listings in the sections that `wasm-nat/src/ipvs/listing.rs` reads.
 */

import type { IpFamily } from "../../cluster/model.ts";
import { pause } from "../../cluster/watch/backoff.ts";
import { createNat, type Nat, type NatListing } from "../../wasm-nat/nat.ts";
import { CommandError, type CommandOptions, runCommand } from "./command.ts";
import { saveTables } from "./iptables.ts";
import { KernelError } from "./kernel-error.ts";

export type IpvsOptions = Pick<CommandOptions, "through" | "signal">;

/** kube-proxy's name; others look for it. */
export const DUMMY_LINK = "kube-ipvs0";

const TIMEOUT_MS = 60_000;

/** `ipvsadm --restore` goes on after a line that fails and ends with 0; only what it says tells. */
export async function restoreIpvs(text: Uint8Array, options: IpvsOptions): Promise<void> {
  const { code, errors } = await runCommand("ipvsadm", ["--restore"], {
    ...options,
    timeoutMs: TIMEOUT_MS,
    input: [text],
  });
  const said = errors
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  if (code === 0 && said.length === 0) return;
  const reason = said[0] ?? `it ended with code ${code}`;
  throw new KernelError({
    program: "ipvsadm",
    reason: said.length > 1 ? `${reason} (and ${said.length - 1} more)` : reason,
  });
}

/** Everything that the compiler's `reconcile` wants to know. */
export async function listIpvs(
  families: readonly IpFamily[],
  options: IpvsOptions,
): Promise<readonly NatListing[]> {
  const common = await listWithoutChains(options);
  const listings: NatListing[] = [];
  for (const family of families) {
    listings.push({ family, text: `${common}## iptables\n${await saveTables({ family }, options)}` });
  }
  return listings;
}

/** `ipvsadm -Ln`: who waits for connections to end, and whose have ended; with `--stats` and its like what they tell. */
export async function listServers(options: IpvsOptions, ...flags: readonly string[]): Promise<string> {
  const { code, output, errors } = await runCommand("ipvsadm", ["-L", "-n", ...flags], {
    ...options,
    timeoutMs: TIMEOUT_MS,
  });
  if (code !== 0) throw new KernelError({ program: "ipvsadm", reason: errors.trim() });
  return output;
}

/** Sets of kube-proxy that Fairlead has no use for. */
const OTHER_SETS =
  /^KUBE-(?:6-)?(?:LOAD-BALANCER-SOURCE-IP|EXTERNAL-IPS|NODE-PORT-LOCAL|LOAD-BALANCER-MASQ)$/;

/**
 * Removes virtual servers, sets and the link, ours and those of kube-proxy's IPVS mode; chains that use the sets have to be
 * gone. Where IPVS is not loaded there are no virtual servers. True: there was something.
 */
export async function removeIpvs({
  isLoaded = true,
  ...options
}: IpvsOptions & { readonly isLoaded?: boolean }): Promise<boolean> {
  const both: readonly IpFamily[] = ["IPv4", "IPv6"];
  const { applyTransaction } = await import("./transactions.ts");
  let nat: Nat | undefined;
  const removeWhatIsThere = async (): Promise<boolean> => {
    const listing = await listWithoutChains(options, isLoaded).catch((error: unknown) => {
      // Where the programs or the kernel's part are missing, nothing of it can be there.
      if (error instanceof CommandError || error instanceof KernelError) return "";
      throw error;
    });
    // An agent of another backend looks, too; it has no memory to spare for another compiler.
    if (listing === "" || (!isLoaded && !HOLDS_OURS.test(listing))) return false;
    nat ??= await createRemover();
    const plan = nat.reconcile(both.map((family) => ({ family, text: listing })));
    try {
      for (const transaction of plan.transactions) await applyTransaction(transaction, options);
    } finally {
      nat.rollback();
    }
    return !plan.empty;
  };
  const removed = await whenSetsAreFree(removeWhatIsThere, options);
  return (await removeOtherSets(options)) || removed;
}

/** A compiler that wants no family, so that everything goes. */
async function createRemover(): Promise<Nat> {
  const nat = await createNat();
  nat.configure({ backend: "ipvs", node: { name: "", addresses: { IPv4: [], IPv6: [] } }, families: [] });
  return nat;
}

/** Sets, also half-made ones, and the link. */
const HOLDS_OURS = new RegExp(`^(?:create (?:KUBE|FAIRLEAD-NEW)-|\\d+: ${DUMMY_LINK}\\b)`, "m");

/** Removes the sets of kube-proxy's IPVS mode that ours has no use for; chains that use them have to be gone. True: there were some. */
export async function removeOtherSets(options: IpvsOptions): Promise<boolean> {
  const ipset = (...args: readonly string[]) =>
    runCommand("ipset", args, { ...options, timeoutMs: TIMEOUT_MS });
  return whenSetsAreFree(async () => {
    const { output } = await ipset("list", "-name");
    const others = output.split("\n").filter((name) => OTHER_SETS.test(name));
    for (const name of others) {
      const { code, errors } = await ipset("destroy", name);
      if (code !== 0) throw new KernelError({ program: "ipset", reason: errors.trim() });
    }
    return others.length > 0;
  }, options);
}

/**
 * The rules of iptables over nftables are let go by the kernel some time after they have been deleted, and until then their
 * sets are in use. So what `remove` is refused for that reason is tried again: whatever is still there, as it finds it.
 */
async function whenSetsAreFree(
  remove: () => Promise<boolean>,
  { signal }: Pick<IpvsOptions, "signal">,
): Promise<boolean> {
  let hasRemoved = false;
  for (let attempt = 1; ; attempt++) {
    try {
      return (await remove()) || hasRemoved;
    } catch (error) {
      const isInUse = error instanceof KernelError && error.message.includes("in use by a kernel component");
      if (!isInUse || attempt === MOST_ATTEMPTS) throw error;
      hasRemoved = true;
      await pause(RETRY_MS, signal ?? new AbortController().signal);
    }
  }
}

const RETRY_MS = 200;
const MOST_ATTEMPTS = 25;

async function listWithoutChains(options: IpvsOptions, isLoaded = true): Promise<string> {
  const [servers, sets, link] = await Promise.all([
    isLoaded ? listServers(options) : "",
    listSets(options),
    listLink(options),
  ]);
  return `## ipvsadm\n${servers}## ipset\n${sets}## link\n${link}`;
}

/** `ipset save`. */
export async function listSets(options: IpvsOptions): Promise<string> {
  const { code, output, errors } = await runCommand("ipset", ["save"], { ...options, timeoutMs: TIMEOUT_MS });
  if (code !== 0) throw new KernelError({ program: "ipset", reason: errors.trim() });
  return output;
}

/** Empty where there is no link. */
async function listLink(options: IpvsOptions): Promise<string> {
  const show = async (what: "link" | "address"): Promise<string> => {
    const args = ["-o", what, "show", "dev", DUMMY_LINK];
    const { code, output } = await runCommand("ip", args, { ...options, timeoutMs: TIMEOUT_MS });
    return code === 0 ? output : "";
  };
  return (await show("link")) + (await show("address"));
}
