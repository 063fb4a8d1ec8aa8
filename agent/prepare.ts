/**
 * What has to be there before the first rule: rights and programs, kernel settings, the compiler, and the backend around it.
 */

import type { IpFamily } from "../cluster/model.ts";
import { createNat } from "../wasm-nat/nat.ts";
import type { Backend } from "./backends/backend.ts";
import { NatBackend, type NatBackendOptions } from "./backends/nat-backend.ts";
import { createReadBack } from "./backends/read-back.ts";
import { ClusterCompiler, type ClusterCompilerOptions } from "./compiler.ts";
import { UdpSweeper } from "./conntrack.ts";
import type { KernelOptions } from "./kernel/transactions.ts";
import { closeLoopback, type LoopbackGuard } from "./loopback.ts";
import { interfaceAddresses, isLoopback, localAddresses } from "./node-addresses.ts";
import type { AgentOptions } from "./options.ts";
import { findConntrackObstacle, usableFamilies } from "./requirements.ts";
import { applySysctls, conntrackSysctls, ipvsSysctls, nodeSysctls, ROUTE_LOCALNET } from "./sysctls.ts";

export interface PreparedNode {
  readonly families: readonly IpFamily[];
  readonly compiler: ClusterCompiler;
  readonly backend: (listeners: BackendListeners) => Backend;
  /** One sentence where stale UDP flows cannot be removed. */
  readonly conntrackObstacle: string | undefined;
}

interface BackendListeners {
  readonly onListing: (text: string | Uint8Array) => void;
  readonly onDiagnostics: () => void;
  readonly onReplaced: () => void;
  /** The compiler has been told everything; what it plans is about to be written. */
  readonly onHandedOver: () => void;
  readonly isWatched?: boolean;
  readonly onApplied?: NatBackendOptions["onApplied"];
  readonly kernel?: KernelOptions;
}

/** What has to be there before any rule. Rejects with one sentence where this node cannot be programmed. */
export async function prepareNode(options: AgentOptions): Promise<PreparedNode> {
  const { settings, conntrack, say } = options;
  const [{ families, obstacles }, nat, conntrackObstacle] = await Promise.all([
    usableFamilies(settings.backend),
    createNat(),
    findConntrackObstacle(),
    setSysctls(conntrackSysctls(conntrack), options),
  ]);
  if (families.length === 0) throw new Error(obstacles.join(" "));
  for (const obstacle of obstacles) say(obstacle);
  await closeLoopbackUnlessNeeded(options, families);
  if (settings.backend === "ipvs") await setSysctls(ipvsSysctls(settings.ipvs?.strictArp ?? false), options);
  const compiler = new ClusterCompiler({ nat, families, ...compilerOptions(options) });
  const readBack = createReadBack(settings.backend, families);
  return {
    families,
    compiler,
    backend: ({ onHandedOver, ...listeners }) =>
      new NatBackend({
        nat,
        readBack,
        takeChanges: () => {
          compiler.handOver();
          onHandedOver();
        },
        ...listeners,
      }),
    conntrackObstacle,
  };
}

/** `undefined` where there is no `conntrack`; that is told. */
export function createSweeper(
  { say }: AgentOptions,
  { families, compiler, conntrackObstacle }: PreparedNode,
  onSwept: (family: IpFamily, deleted: number, durationMs: number) => void = () => {},
): UdpSweeper | undefined {
  if (conntrackObstacle !== undefined) {
    say(conntrackObstacle);
    return undefined;
  }
  return new UdpSweeper({
    families,
    nodeAddresses: () => new Set(compiler.nodePortAddresses() ?? localAddresses()),
    hostPortAddresses: () => new Set([...localAddresses()].filter((address) => !isLoopback(address))),
    onSweep: (family, { deleted, durationMs }) => onSwept(family, deleted, durationMs),
    onFailure: say,
  });
}

export async function setSysctls(
  wanted: Parameters<typeof applySysctls>[0],
  { procSys, say }: Pick<AgentOptions, "procSys" | "say">,
): Promise<void> {
  const { problems } = await applySysctls(wanted, procSys);
  for (const problem of problems) say(problem);
}

/**
 * Before rules that guard loopback give way to some that do not have to, those of another backend among them: where an agent runs
 * in a container, only what comes before it (`--init-only`) may write settings of the kernel.
 */
export async function closeLoopbackUnlessNeeded(
  { settings, procSys, say }: Pick<AgentOptions, "settings" | "procSys" | "say">,
  families: readonly IpFamily[],
): Promise<void> {
  if (nodeSysctls(settings, families).includes(ROUTE_LOCALNET)) return;
  // kubelet's own guard is in a chain that is never ours.
  const isReplaced = (guard: LoopbackGuard): boolean =>
    guard.backend === "nftables" || guard.chain !== KUBELET_CHAIN;
  const problem = await closeLoopback(isReplaced, { procSys });
  if (problem !== undefined) say(problem);
}

const KUBELET_CHAIN = "KUBE-FIREWALL";

export function compilerOptions({
  settings,
  healthListen,
  metricsListen,
}: AgentOptions): Omit<ClusterCompilerOptions, "nat" | "families"> {
  const ownPorts = new Map<number, string>();
  if (healthListen !== undefined) ownPorts.set(healthListen.port, "--healthz-listen");
  if (metricsListen !== undefined) ownPorts.set(metricsListen.port, "--metrics-listen");
  return {
    settings,
    ownPorts,
    // IPVS asks for every address that this node has.
    ...(settings.backend === "ipvs" && { furtherAddresses: interfaceAddresses }),
  };
}
