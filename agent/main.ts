/**
 * The node agent: the cluster's Services become rules of this node's kernel, and stay what the cluster says.
 *
 * In: settings, a source of cluster states, and who to tell. Out: rules. The steps are here in order; each of them is a
 * file of its own. Errors that end the agent are one sentence; everything else is told and tried again.
 */

import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { ClusterModel, IpFamily, Pod } from "../cluster/model.ts";
import { createNat } from "../wasm-nat/nat.ts";
import type { Backend } from "./backends/backend.ts";
import { NatBackend } from "./backends/nat-backend.ts";
import { createReadBack } from "./backends/read-back.ts";
import { ClusterCompiler, configMapNames } from "./compiler.ts";
import { UdpSweeper } from "./conntrack.ts";
import { DiagnosticLog } from "./diagnostic-log.ts";
import { hostPortRules } from "./host-ports/rules.ts";
import { printTransactions } from "./kernel/transactions.ts";
import { removeLeftovers } from "./leftovers.ts";
import { beTheOnlyAgent } from "./lone-agent.ts";
import { releaseStartMemory } from "./memory.ts";
import { createAgentMetrics } from "./metrics.ts";
import { interfaceAddresses, localAddresses } from "./node-addresses.ts";
import { createNodeHealth } from "./node-health.ts";
import { type OutboundSettings, outboundSource } from "./outbound/outbound.ts";
import { findConntrackObstacle, usableFamilies } from "./requirements.ts";
import { CachedCounters, readCounters } from "./service-counters.ts";
import { ServiceFollower } from "./service-follower.ts";
import { ServiceHealthServers } from "./service-health.ts";
import type { NatSettings } from "./settings.ts";
import { SideRulesRunner, type SideRulesSource } from "./side-rules/runner.ts";
import type { SideRulesName } from "./side-rules/side-rules.ts";
import { nothingRead, type OpenSource, openSource, readOnce, type SourceSettings } from "./sources/open.ts";
import type { ClusterState } from "./sources/source.ts";
import { type ListenAddress, startStatusServers } from "./status-servers.ts";
import { RuleSync } from "./sync.ts";
import {
  applySysctls,
  type ConntrackSettings,
  conntrackSysctls,
  ipvsSysctls,
  nodeSysctls,
} from "./sysctls.ts";
import { TakeOver } from "./take-over.ts";
import { rememberedDestinations } from "./udp-remembered.ts";

export interface AgentOptions {
  readonly settings: NatSettings;
  readonly source: SourceSettings;
  readonly conntrack: ConntrackSettings;
  /** What leaves the cluster, and by which address; absent: nobody's business. */
  readonly outbound?: OutboundSettings | undefined;
  /** Host ports of Pods are rules of ours, not of a CNI plug-in. */
  readonly hostPorts: boolean;
  /** `/proc/sys`, or where the node's is mounted. */
  readonly procSys: string;
  /** One line for the operator. */
  readonly say: (line: string) => void;
}

export interface DaemonOptions extends AgentOptions {
  readonly healthListen?: ListenAddress | undefined;
  readonly metricsListen?: ListenAddress | undefined;
  /** The rules are in the kernel for the first time. */
  readonly onReady: () => void;
  readonly stop: AbortSignal;
}

/** `fairlead agent`: until `stop`. Leaves the rules. */
export async function runAgent(options: DaemonOptions): Promise<void> {
  const { settings, source, say, stop } = options;
  const lock = await beTheOnlyAgent(stop, () =>
    say("Another agent runs in this network namespace; this one waits until it has ended."),
  );
  if (lock === undefined) return;
  const node = await prepareNode(options);
  const { families, compiler } = node;

  const metrics = createAgentMetrics(settings.backend, families);
  const sweeper = await createSweeper(options, node, metrics.swept);
  const follower = new ServiceFollower({
    node: settings.node,
    updateUdp: (service, ports) => sweeper?.update(service, ports),
  });
  const diagnostics = new DiagnosticLog(say);
  const takeOver = new TakeOver({ backend: settings.backend, sideRules: sideRuleNames(options), say, stop });
  const sideRules = createSideRules(options, families, () => model?.pods.values() ?? []);
  let isReady = false;
  let model: ClusterModel | undefined;
  let followed: OpenSource | undefined;

  const sync = new RuleSync({
    backend: node.backend({
      onListing: (listing) => sweeper?.suspect(rememberedDestinations(listing)),
      onDiagnostics: () => diagnostics.show("compiling", compiler.diagnostics()),
    }),
    onSynced: ({ kind, changes, durationMs }) => {
      metrics.synced(kind, durationMs);
      metrics.programmed(follower.takeTriggerTimes());
      // Rules that were missing have let flows pass untranslated.
      if (kind === "resync" && changes > 0) sweeper?.suspectAll();
      sweeper?.rulesChanged();
      if (isReady) return;
      isReady = true;
      void setSysctls(nodeSysctls(settings, families), options);
      takeOver.begin();
      options.onReady();
      setTimeout(releaseStartMemory, QUIET_AFTER_START_MS).unref();
    },
    onTrouble: (message, kind) => {
      say(message);
      if (kind === "drifted") {
        metrics.drifted();
        return;
      }
      metrics.syncFailed(kind);
      followed?.tell({ about: { kind: "Node", name: settings.node }, reason: "RulesNotApplied", message });
    },
  });

  const health = createNodeHealth({
    families,
    progress: () => ({ queuedSinceMs: sync.queuedSinceMs(), syncedAtMs: sync.syncedAtMs() }),
    node: () => compiler.node(),
    nodeExpected: source.kind === "kubernetes",
  });
  const serviceHealth = new ServiceHealthServers({
    addresses: () => compiler.nodePortAddresses() ?? ["0.0.0.0", "::"],
    isHealthy: health.isHealthy,
    onFailure: (service, message) => {
      say(`Service ${service}: ${message}`);
      const uid = model?.services.get(service)?.meta.uid;
      followed?.tell({
        about: { kind: "Service", name: service, uid },
        reason: "FailedToStartServiceHealthcheck",
        message: `node ${settings.node}: ${message}`,
      });
    },
  });
  const counters = new CachedCounters(() => readCounters(settings.backend, families));
  const servers = startStatusServers({
    ...options,
    health,
    metrics,
    backend: settings.backend,
    beforeMetrics: async () => {
      const { noLocalEndpoints, memoryBytes } = compiler.nat.status();
      const { internal, external } = noLocalEndpoints;
      metrics.noLocalEndpoints("internal", internal);
      metrics.noLocalEndpoints("external", external);
      metrics.memory(process.memoryUsage.rss(), memoryBytes);
      metrics.counted(await counters.get());
    },
  });

  const take = ({ model: present, diagnostics: ofReading }: ClusterState): void => {
    const before = model;
    model = present;
    diagnostics.show("reading", ofReading);
    // They follow Pods, not Services.
    if (before?.pods !== present.pods) for (const runner of sideRules) runner.changed();
    const changes = compiler.note(present);
    if (changes === undefined) return;
    follower.take(present, changes, compiler.exposed());
    metrics.changesQueued(changes.services.length, changes.endpointSlices.length);
    void serviceHealth.update(follower.healthPorts());
    sync.changed();
    sync.start();
  };
  followed = await openSource(source, interestOf(options), {
    onState: take,
    onNothing: (found) => {
      diagnostics.show("reading", found);
      if (source.kind === "files") say(nothingRead(source));
    },
    onNote: say,
  });

  // A port that was taken may be free by now, without any change of a Service.
  const retry = setInterval(() => void serviceHealth.update(follower.healthPorts()), HEALTH_RETRY_MS);
  await new Promise<void>((resolve) => {
    if (stop.aborted) resolve();
    else stop.addEventListener("abort", () => resolve(), { once: true });
  });
  clearInterval(retry);
  followed.close();
  await Promise.all([
    sync.close(),
    sweeper?.close(),
    serviceHealth.close(),
    servers.close(),
    takeOver.close(),
    ...sideRules.map((runner) => runner.close()),
  ]);
  lock.release();
}

/** `fairlead agent --once`: programs the present state. Rejects with one sentence; then the rules are what they were. */
export async function programOnce(options: AgentOptions): Promise<void> {
  const { settings, say } = options;
  const [node, { model, diagnostics }] = await Promise.all([
    prepareNode(options),
    readOnce(options.source, interestOf(options), say),
  ]);
  const { compiler } = node;
  const log = new DiagnosticLog(say);
  log.show("reading", diagnostics);
  const sweeper = await createSweeper(options, node);
  const follower = new ServiceFollower({
    node: settings.node,
    updateUdp: (service, ports) => sweeper?.update(service, ports),
  });
  const changes = compiler.note(model);
  if (changes !== undefined) follower.take(model, changes, compiler.exposed());
  await node
    .backend({
      onListing: (listing) => sweeper?.suspect(rememberedDestinations(listing)),
      onDiagnostics: () => log.show("compiling", compiler.diagnostics()),
    })
    .resync();
  for (const runner of createSideRules(options, node.families, () => model.pods.values()))
    await runner.once();
  const { problems } = await removeLeftovers(settings.backend, sideRuleNames(options));
  for (const problem of problems) say(problem);
  await setSysctls(nodeSysctls(settings, node.families), options);
  await sweeper?.sweepNow().catch((error: unknown) => say(messageOf(error)));
}

/** `fairlead agent --dry-run`: what `--once` would apply, as text. Needs no rights where the kernel cannot be read. */
export async function planOnce(options: AgentOptions): Promise<string> {
  const { settings, say } = options;
  const [{ model, diagnostics }, nat, usable] = await Promise.all([
    readOnce(options.source, interestOf(options), say),
    createNat(),
    usableFamilies(settings.backend),
  ]);
  const log = new DiagnosticLog(say);
  log.show("reading", diagnostics);
  const families = usable.families.length > 0 ? usable.families : BOTH;
  for (const obstacle of usable.obstacles) say(obstacle);
  if (usable.families.length === 0) say("The kernel cannot be read; this is for a node without rules.");
  const compiler = new ClusterCompiler({ nat, settings, families, ...addressesFor(settings) });
  compiler.note(model);
  const listings =
    usable.families.length > 0 ? await createReadBack(settings.backend, families).listing({}) : [];
  compiler.handOver();
  const plan = nat.reconcile(listings);
  log.show("compiling", compiler.diagnostics());
  const beside: Awaited<ReturnType<SideRulesRunner["plan"]>>[number][] = [];
  if (usable.families.length > 0)
    for (const runner of createSideRules(options, families, () => model.pods.values()))
      beside.push(...(await runner.plan()));
  if (plan.empty && beside.length === 0) say("The kernel holds these rules already; there is nothing to do.");
  const encoder = new TextEncoder();
  return (
    printTransactions(plan.transactions) +
    printTransactions(beside.map(({ program, text }) => ({ program, text: encoder.encode(text) })))
  );
}

/** `fairlead agent --cleanup`: removes the rules of every backend, ours and kube-proxy's. Rejects if something stays. */
export async function cleanUp(say: (line: string) => void): Promise<void> {
  const { removed, problems } = await removeLeftovers(undefined, []);
  if (removed.length > 0) say(`Removed: ${removed.join(", ")}.`);
  if (problems.length > 0) throw new Error(problems.join(" "));
}

/** `fairlead agent --init-only`: sets what needs more rights than the rules do. */
export async function initializeNode(options: AgentOptions): Promise<void> {
  const { settings, conntrack } = options;
  await setSysctls([...conntrackSysctls(conntrack), ...nodeSysctls(settings, BOTH)], options);
}

/** What changed while the first rules were made is written by then. */
const QUIET_AFTER_START_MS = 5_000;
/** As often as kube-proxy syncs when nothing changes. */
const HEALTH_RETRY_MS = 30_000;
const BOTH = ["IPv4", "IPv6"] as const satisfies readonly IpFamily[];

interface PreparedNode {
  readonly families: readonly IpFamily[];
  readonly compiler: ClusterCompiler;
  readonly backend: (listeners: BackendListeners) => Backend;
}

interface BackendListeners {
  readonly onListing: (text: string | Uint8Array) => void;
  readonly onDiagnostics: (diagnostics: readonly Diagnostic[]) => void;
}

/** What has to be there before any rule. Rejects with one sentence where this node cannot be programmed. */
async function prepareNode(options: AgentOptions): Promise<PreparedNode> {
  const { settings, conntrack, say } = options;
  const [{ families, obstacles }, nat] = await Promise.all([
    usableFamilies(settings.backend),
    createNat(),
    setSysctls(conntrackSysctls(conntrack), options),
  ]);
  if (families.length === 0) throw new Error(obstacles.join(" "));
  for (const obstacle of obstacles) say(obstacle);
  if (settings.backend === "ipvs") await setSysctls(ipvsSysctls(settings.ipvs?.strictArp ?? false), options);
  const compiler = new ClusterCompiler({ nat, settings, families, ...addressesFor(settings) });
  const readBack = createReadBack(settings.backend, families);
  return {
    families,
    compiler,
    backend: (listeners) =>
      new NatBackend({ nat, readBack, takeChanges: () => compiler.handOver(), ...listeners }),
  };
}

/** `undefined` where there is no `conntrack`; that is told. */
async function createSweeper(
  { say }: AgentOptions,
  { families, compiler }: PreparedNode,
  onSwept: (family: IpFamily, deleted: number, durationMs: number) => void = () => {},
): Promise<UdpSweeper | undefined> {
  const obstacle = await findConntrackObstacle();
  if (obstacle !== undefined) {
    say(obstacle);
    return undefined;
  }
  return new UdpSweeper({
    families,
    nodeAddresses: () => new Set(compiler.nodePortAddresses() ?? localAddresses()),
    onSweep: (family, { deleted, durationMs }) => onSwept(family, deleted, durationMs),
    onFailure: say,
  });
}

async function setSysctls(
  wanted: Parameters<typeof applySysctls>[0],
  { procSys, say }: Pick<AgentOptions, "procSys" | "say">,
): Promise<void> {
  const { problems } = await applySysctls(wanted, procSys);
  for (const problem of problems) say(problem);
}

/** IPVS asks for every address that this node has. */
function addressesFor({ backend }: NatSettings): { readonly furtherAddresses?: () => readonly string[] } {
  return backend === "ipvs" ? { furtherAddresses: interfaceAddresses } : {};
}

function interestOf({ settings, outbound, hostPorts }: AgentOptions): Parameters<typeof openSource>[1] {
  return {
    node: settings.node,
    configMaps: configMapNames(settings),
    pods: hostPorts || outbound?.kind === "file",
  };
}

function sideRuleNames({ outbound, hostPorts }: AgentOptions): readonly SideRulesName[] {
  return [
    ...(outbound === undefined ? [] : (["snat"] as const)),
    ...(hostPorts ? (["hostports"] as const) : []),
  ];
}

/** One runner for each rule set beside those of Services that is in use. */
function createSideRules(
  options: AgentOptions,
  families: readonly IpFamily[],
  pods: () => Iterable<Pod>,
): readonly SideRulesRunner[] {
  const { settings, outbound, say } = options;
  const sources: Readonly<Record<SideRulesName, () => SideRulesSource | undefined>> = {
    snat: () => outbound && outboundSource(outbound, settings.node, pods),
    hostports: () => ({ wanted: async () => hostPortRules(pods(), settings.node) }),
  };
  return sideRuleNames(options).flatMap((name) => {
    const source = sources[name]();
    return source === undefined
      ? []
      : [new SideRulesRunner({ name, backend: settings.backend, families, say, ...source })];
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
