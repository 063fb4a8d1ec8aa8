/**
 * Kernel settings that NAT for a whole node needs, as kube-proxy sets them.
 *
 * In: what is wanted. Out: what was set, and one sentence for each setting that could not be. A setting that has its value
 * already is not written, so a container without the right to write asks for nothing where the node is set up. Settings
 * that the kernel does not have here (another network namespace, a module that is not loaded) are left alone; that is told of
 * those without which a backend does not work.
 */

import { access, readFile, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { IpFamily } from "../cluster/model.ts";
import type { BackendName } from "./backends/backend.ts";
import { namesLoopback } from "./node-addresses.ts";
import type { NatSettings } from "./settings.ts";

export interface ConntrackSettings {
  /** Flows by processor; 0 leaves the kernel's own limit. */
  readonly maxPerCore: number;
  /** At least so many flows, however few processors there are. */
  readonly min: number;
  /** 0 leaves the kernel's own. */
  readonly tcpEstablishedSeconds: number;
  readonly tcpCloseWaitSeconds: number;
  readonly udpSeconds: number;
  readonly udpStreamSeconds: number;
  /**
   * Packets outside the window are no longer INVALID. Then asymmetric routes work and a stray packet is not answered
   * by the node with a reset (kubernetes/kubernetes#74839); without it kube-proxy has to drop what is INVALID.
   */
  readonly tcpBeLiberal: boolean;
}

/** kube-proxy's defaults, but liberal (the reference names the issues). */
export const CONNTRACK_DEFAULTS: ConntrackSettings = {
  maxPerCore: 32_768,
  min: 131_072,
  tcpEstablishedSeconds: 86_400,
  tcpCloseWaitSeconds: 3_600,
  udpSeconds: 0,
  udpStreamSeconds: 0,
  tcpBeLiberal: true,
};

export interface Sysctl {
  /** Below `/proc/sys`, with slashes. */
  readonly name: string;
  readonly value: number;
  /** A higher value than wanted is kept: the operator has set it. */
  readonly atLeast?: true;
  /** The module that has it; where it is missing, that is told. */
  readonly module?: string;
}

export function conntrackSysctls(
  settings: ConntrackSettings,
  processors: number = availableParallelism(),
): readonly Sysctl[] {
  const { maxPerCore, min } = settings;
  const max = maxPerCore === 0 ? 0 : Math.max(min, maxPerCore * processors);
  const wanted: readonly Sysctl[] = [
    { name: "net/netfilter/nf_conntrack_max", value: max, atLeast: true },
    { name: "net/netfilter/nf_conntrack_buckets", value: Math.floor(max / 4), atLeast: true },
    { name: "net/netfilter/nf_conntrack_tcp_timeout_established", value: settings.tcpEstablishedSeconds },
    { name: "net/netfilter/nf_conntrack_tcp_timeout_close_wait", value: settings.tcpCloseWaitSeconds },
    { name: "net/netfilter/nf_conntrack_udp_timeout", value: settings.udpSeconds },
    { name: "net/netfilter/nf_conntrack_udp_timeout_stream", value: settings.udpStreamSeconds },
    { name: "net/netfilter/nf_conntrack_tcp_be_liberal", value: Number(settings.tcpBeLiberal) },
  ];
  return wanted.filter(({ value }) => value > 0);
}

/** Node ports at 127.0.0.1 need it; IPv4 only. The rules then keep others from reaching loopback (CVE-2020-8558). */
export const ROUTE_LOCALNET: Sysctl = { name: "net/ipv4/conf/all/route_localnet", value: 1 };

/** Before the first virtual server: what IPVS needs to work together with connection tracking, as kube-proxy sets it. */
export function ipvsSysctls(strictArp: boolean): readonly Sysctl[] {
  const vs = (name: string, value: number): Sysctl => ({
    name: `net/ipv4/vs/${name}`,
    value,
    module: "ip_vs",
  });
  return [
    // Without it nothing can be masqueraded.
    vs("conntrack", 1),
    // `conn_reuse_mode` stays 1: kernels before 5.9 delayed a client's port that came again, which is why kube-proxy set 0
    // there, but 0 leads it back to an endpoint that has weight 0.
    // A packet to an endpoint that is gone ends the connection, so that the next one finds another endpoint.
    vs("expire_nodest_conn", 1),
    // A client that stays with an endpoint does not when that has weight 0.
    vs("expire_quiescent_template", 1),
    { name: "net/ipv4/ip_forward", value: 1 },
    ...(strictArp
      ? [
          { name: "net/ipv4/conf/all/arp_ignore", value: 1 },
          { name: "net/ipv4/conf/all/arp_announce", value: 2 },
        ]
      : []),
  ];
}

/** What the rules of a backend need beside them; set when they stand. */
export function nodeSysctls(
  { backend, nodePortAddresses }: Pick<NatSettings, "backend" | "nodePortAddresses">,
  families: readonly IpFamily[],
): readonly Sysctl[] {
  const isNamed = namesLoopback(nodePortAddresses);
  const hasLoopback: Readonly<Record<BackendName, boolean>> = {
    nftables: isNamed,
    // As in kube-proxy, whoever asks for every address asks for loopback, too.
    iptables:
      isNamed ||
      nodePortAddresses.some(
        (which) => which === "all" || (typeof which === "object" && which.cidr.startsWith("0.")),
      ),
    ipvs: false,
  };
  return families.includes("IPv4") && hasLoopback[backend] ? [ROUTE_LOCALNET] : [];
}

export interface SysctlResult {
  /** `net/ipv4/conf/all/route_localnet = 1`. */
  readonly set: readonly string[];
  readonly problems: readonly string[];
}

/** One sentence where `folder` is no `/proc/sys`, or what stands for it. */
export async function findSysctlObstacle(folder: string): Promise<string | undefined> {
  const isThere = await access(join(folder, "net")).then(
    () => true,
    () => false,
  );
  return isThere
    ? undefined
    : `${folder} (--proc-sys) does not hold the kernel's settings: it has no folder net.`;
}

export async function applySysctls(wanted: readonly Sysctl[], folder = "/proc/sys"): Promise<SysctlResult> {
  const set: string[] = [];
  const problems: string[] = [];
  for (const { name, value, atLeast, module } of wanted) {
    const path = join(folder, name);
    const dotted = name.replaceAll("/", ".");
    const before = await readFile(path, "utf8").catch(() => undefined);
    if (before === undefined) {
      if (module !== undefined)
        problems.push(`sysctl ${dotted} is not there to be set to ${value}: the kernel has no ${module}.`);
      continue;
    }
    const current = Number(before.trim());
    if (current === value || (atLeast === true && current > value)) continue;
    try {
      await writeFile(path, String(value));
      set.push(`${name} = ${value}`);
    } catch (error) {
      const reason = error instanceof Error && "code" in error ? String(error.code) : String(error);
      problems.push(`sysctl ${dotted} stays ${current} instead of ${value}: ${reason}.`);
    }
  }
  return { set, problems };
}
