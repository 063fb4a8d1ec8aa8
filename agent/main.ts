/**
 * The node agent: the cluster's Services become rules of this node's kernel, and stay what the cluster says.
 *
 * In: settings, a source of cluster states, and who to tell. Out: rules. The steps are here in order; each of them is a
 * file of its own. Errors that end the agent are one sentence; everything else is told and tried again.
 */

import type { ClusterModel, IpFamily } from "../cluster/model.ts";
import { createNat } from "../wasm-nat/nat.ts";
import { type Backend, OneFamilyError } from "./backends/backend.ts";
import { createReadBack } from "./backends/read-back.ts";
import { ClusterCompiler, configMapNames } from "./compiler.ts";
import { DiagnosticLog } from "./diagnostic-log.ts";
import { KernelError } from "./kernel/kernel-error.ts";
import { printTransactions } from "./kernel/transactions.ts";
import { WaitingPrograms } from "./kernel/waiting-programs.ts";
import { removeLeftovers, removeOwn } from "./leftovers.ts";
import { beTheOnlyAgent, whileNoAgentRuns } from "./lone-agent.ts";
import { boundNewObjects, releaseStartMemory } from "./memory.ts";
import { createAgentMetrics } from "./metrics.ts";
import { createNodeHealth } from "./node-health.ts";
import type { AgentOptions, DaemonOptions } from "./options.ts";
import {
  closeLoopbackUnlessNeeded,
  compilerOptions,
  createSweeper,
  prepareNode,
  setSysctls,
} from "./prepare.ts";
import { loadModules, usableFamilies } from "./requirements.ts";
import { CachedCounters, ownersFrom, readCounters } from "./service-counters.ts";
import { ServiceFollower } from "./service-follower.ts";
import { ServiceHealthServers } from "./service-health.ts";
import { createSideRules, sideRuleNames } from "./side-rules/configured.ts";
import type { SideRulesRunner } from "./side-rules/runner.ts";
import { nothingRead, type OpenSource, openSource, readOnce } from "./sources/open.ts";
import type { ClusterState } from "./sources/source.ts";
import { startStatusServers } from "./status-servers.ts";
import { RuleSync } from "./sync.ts";
import { conntrackSysctls, findSysctlObstacle, ipvsSysctls, nodeSysctls } from "./sysctls.ts";
import { TakeOver } from "./take-over.ts";
import { rememberedDestinations } from "./udp-remembered.ts";

/** `fairlead agent`: until `stop`. Leaves the rules. Rejects with one sentence where it cannot begin, and is ended then. */
export async function runAgent(options: DaemonOptions): Promise<void> {
  const { settings, source, say, stop } = options;
  const lock = await beTheOnlyAgent(stop, () =>
    say("Another agent runs in this network namespace; this one waits until it has ended."),
  );
  if (lock === undefined) return;
  const node = await prepareNode(options);
  const { families, compiler } = node;

  const metrics = createAgentMetrics(settings.backend, families);
  const sweeper = createSweeper(options, node, metrics.swept);
  const follower = new ServiceFollower({
    node: settings.node,
    updateUdp: (service, ports) => sweeper?.update(service, ports),
  });
  const diagnostics = new DiagnosticLog(say);
  const { procSys } = options;
  const sideRulesInUse = sideRuleNames(options);
  const takeOver = new TakeOver({ backend: settings.backend, sideRules: sideRulesInUse, procSys, say, stop });
  const sideRules = createSideRules(options, families, () => pods?.values(), sweeper);
  let isReady = false;
  let model: ClusterModel | undefined;
  let pods: ClusterModel["pods"] | undefined;
  let followed: OpenSource | undefined;

  const waiting = new WaitingPrograms();
  const sync = new RuleSync({
    backend: node.backend({
      onListing: (listing) => sweeper?.suspect(rememberedDestinations(listing)),
      onDiagnostics: () => diagnostics.show("compiling", compiler.diagnostics()),
      onReplaced: () => say(REPLACED),
      onHandedOver: () => sweeper?.rulesChange(),
      onApplied: metrics.applied,
      kernel: { waiting },
    }),
    onSynced: ({ kind, changes, durationMs }) => {
      metrics.synced(kind, durationMs);
      metrics.programmed(follower.takeTriggerTimes(BOTH));
      boundNewObjects();
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
    onTrouble: (message, kind, affected) => {
      say(message);
      if (kind === "drifted") {
        metrics.drifted();
        return;
      }
      if (kind === "unaudited" || affected === undefined) return;
      metrics.syncFailed(kind, affected);
      metrics.programmed(follower.takeTriggerTimes(affected.synced));
      followed?.tell({ about: { kind: "Node", name: settings.node }, reason: "RulesNotApplied", message });
    },
  });

  const health = createNodeHealth({
    families,
    progress: (family) => sync.progress(family),
    node: () => compiler.node(),
    nodeExpected: source.kind === "kubernetes",
  });
  const serviceHealth = new ServiceHealthServers({
    addresses: () => compiler.nodePortAddresses() ?? families.map((family) => EVERYWHERE[family]),
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
  const counters = new CachedCounters({
    read: () =>
      readCounters(settings.backend, families, {
        owners: () => (model === undefined ? () => undefined : ownersFrom(model, compiler.exposed())),
      }),
    onFailure: (message, isAgain) => {
      metrics.countersFailed();
      if (!isAgain) say(`What the kernel has counted cannot be read: ${message}`);
    },
  });
  const servers = startStatusServers({
    ...options,
    health,
    metrics,
    backend: settings.backend,
    beforeMetrics: async () => {
      const { noLocalEndpoints, memoryBytes } = compiler.nat.status();
      metrics.noLocalEndpoints(noLocalEndpoints);
      metrics.memory(process.memoryUsage.rss(), memoryBytes);
      const counted = await counters.get();
      if (counted !== undefined) metrics.counted(counted);
      if (followed !== undefined) metrics.followed(followed.status());
    },
  });

  const take = (state: ClusterState): void => {
    const { model: present, diagnostics: ofReading } = state;
    const isFirst = model === undefined;
    const podsBefore = pods;
    model = present;
    pods = podsOf(state);
    diagnostics.show("reading", ofReading);
    // They follow Pods, not Services.
    if (isFirst || pods !== podsBefore) for (const runner of sideRules) runner.changed();
    const changes = compiler.note(present);
    if (changes === undefined) return;
    follower.take(present, changes, compiler.exposed());
    metrics.changesQueued(changes.services.length, changes.endpointSlices.length);
    void serviceHealth.update(follower.healthPorts());
    sync.changed();
    sync.start();
  };
  const look = setInterval(() => {
    // A port that was taken may be free by now, without any change of a Service; addresses of the node may be others.
    void serviceHealth.update(follower.healthPorts());
    if (isReady && compiler.isOutdated()) sync.changed();
  }, LOOK_MS);
  try {
    followed = await openSource(source, interestOf(options), {
      onState: take,
      onNothing: (found) => {
        diagnostics.show("reading", found);
        if (source.kind === "files") say(nothingRead(source));
      },
      onNote: say,
    });
    await new Promise<void>((resolve) => {
      if (stop.aborted) resolve();
      else stop.addEventListener("abort", () => resolve(), { once: true });
    });
  } finally {
    clearInterval(look);
    followed?.close();
    await Promise.all([
      sync.close(),
      sweeper?.close(),
      serviceHealth.close(),
      servers.close(),
      takeOver.close(),
      ...sideRules.map((runner) => runner.close()),
    ]);
    waiting.close();
    lock.release();
  }
}

/** `fairlead agent --once`: programs the present state. Rejects with one sentence; then the rules are what they were. */
export function programOnce(options: AgentOptions): Promise<void> {
  const advice = ", or change what it follows (--dry-run only shows what would be done)";
  return whileNoAgentRuns(advice, () => program(options));
}

async function program(options: AgentOptions): Promise<void> {
  const { settings, say } = options;
  // First: reading keeps this process busy, which then hears late what the programs have said that it waits for.
  const node = await prepareNode(options);
  const { compiler } = node;
  const sweeper = createSweeper(options, node);
  const state = await readOnce(options.source, interestOf(options), say);
  const { model, diagnostics } = state;
  const log = new DiagnosticLog(say);
  log.show("reading", diagnostics);
  const follower = new ServiceFollower({
    node: settings.node,
    updateUdp: (service, ports) => sweeper?.update(service, ports),
  });
  const changes = compiler.note(model);
  if (changes !== undefined) follower.take(model, changes, compiler.exposed());
  await resyncAtOnce(
    node.backend({
      onListing: (listing) => sweeper?.suspect(rememberedDestinations(listing)),
      onDiagnostics: () => log.show("compiling", compiler.diagnostics()),
      onReplaced: () => say(REPLACED),
      onHandedOver: () => sweeper?.rulesChange(),
      isWatched: false,
    }),
  );
  for (const runner of createSideRules(options, node.families, () => podsOf(state)?.values(), sweeper))
    await runner.once();
  const [{ problems, openIpvsConnections }] = await Promise.all([
    removeLeftovers(settings.backend, sideRuleNames(options), { procSys: options.procSys }),
    setSysctls(nodeSysctls(settings, node.families), options),
  ]);
  if (openIpvsConnections > 0) say(openConnections(openIpvsConnections));
  for (const problem of problems) say(problem);
  await sweeper?.sweepNow().catch((error: unknown) => say(messageOf(error)));
  await sweeper?.close();
}

/** No loop comes after it: refused resyncs are repeated until the backend has tried everything that it knows. */
async function resyncAtOnce(backend: Backend): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await backend.resync();
      return;
    } catch (error) {
      const cause = error instanceof OneFamilyError ? error.cause : error;
      if (!(cause instanceof KernelError) || attempt === MOST_RESYNCS_AT_ONCE) throw error;
    }
  }
}

/** `fairlead agent --dry-run`: what `--once` would apply, as text. Needs no rights where the kernel cannot be read. */
export async function planOnce(options: AgentOptions): Promise<string> {
  const { settings, say } = options;
  const [state, nat, usable] = await Promise.all([
    readOnce(options.source, interestOf(options), say),
    createNat(),
    usableFamilies(settings.backend),
  ]);
  const { model, diagnostics } = state;
  const log = new DiagnosticLog(say);
  log.show("reading", diagnostics);
  const families = usable.families.length > 0 ? usable.families : BOTH;
  for (const obstacle of usable.obstacles) say(obstacle);
  if (usable.families.length === 0) say("The kernel cannot be read; this is for a node without rules.");
  const compiler = new ClusterCompiler({ nat, families, ...compilerOptions(options) });
  compiler.note(model);
  const listings =
    usable.families.length > 0 ? await createReadBack(settings.backend, families).listing({}) : [];
  compiler.handOver();
  const plan = nat.reconcile(listings);
  const transactions = printTransactions(plan.transactions);
  log.show("compiling", compiler.diagnostics());
  const beside: Awaited<ReturnType<SideRulesRunner["plan"]>>[number][] = [];
  if (usable.families.length > 0)
    for (const runner of createSideRules(options, families, () => podsOf(state)?.values()))
      beside.push(...(await runner.plan()));
  if (plan.empty && beside.length === 0) say("The kernel holds these rules already; there is nothing to do.");
  const encoder = new TextEncoder();
  return (
    transactions +
    printTransactions(beside.map(({ program, text }) => ({ program, text: encoder.encode(text) })))
  );
}

/** `fairlead agent --cleanup`: removes the rules of every backend, ours and kube-proxy's. Rejects if something stays. */
export async function cleanUp({ say, procSys }: Pick<AgentOptions, "say" | "procSys">): Promise<void> {
  const { removed, problems } = await whileNoAgentRuns("", () => removeLeftovers(undefined, [], { procSys }));
  if (removed.length > 0) say(`Removed: ${removed.join(", ")}.`);
  if (problems.length > 0) throw new Error(problems.join(" "));
}

/** `fairlead agent --cleanup-own`: removes what is Fairlead's; a kube-proxy that runs serves on. Rejects if something stays. */
export async function cleanUpOwn({ say, procSys }: Pick<AgentOptions, "say" | "procSys">): Promise<void> {
  const { removed, problems, openIpvsConnections, leftToKubeProxy } = await whileNoAgentRuns("", () =>
    removeOwn({ procSys }),
  );
  if (removed.length > 0) say(`Removed: ${removed.join(", ")}.`);
  if (openIpvsConnections > 0) say(openConnections(openIpvsConnections));
  if (leftToKubeProxy) say(LEFT_TO_KUBE_PROXY);
  if (problems.length > 0) throw new Error(problems.join(" "));
}

/** `fairlead agent --init-only`: sets what needs more rights than the rules do. Rejects where there is nothing to set. */
export async function initializeNode(options: AgentOptions): Promise<void> {
  const { settings, conntrack, procSys } = options;
  const obstacle = await findSysctlObstacle(procSys);
  if (obstacle !== undefined) throw new Error(obstacle);
  await loadModules(settings.backend);
  await closeLoopbackUnlessNeeded(options, BOTH);
  const ofBackend = settings.backend === "ipvs" ? ipvsSysctls(settings.ipvs?.strictArp ?? false) : [];
  await setSysctls([...conntrackSysctls(conntrack), ...ofBackend, ...nodeSysctls(settings, BOTH)], options);
}

/** Two by what is read back; then what stands is replaced. */
const MOST_RESYNCS_AT_ONCE = 3;
const REPLACED =
  "What stood in the kernel took no changes any more, so the rules of this node's Services were replaced as a whole.";
const LEFT_TO_KUBE_PROXY =
  "Chains, sets and virtual servers that have kube-proxy's names were left: its iptables mode takes the chains over, and its IPVS mode does not take the sets of ours; where no kube-proxy runs, --cleanup removes them.";
/** What changed while the first rules were made is written by then. */
const QUIET_AFTER_START_MS = 5_000;
/** Between two looks at what changes without the cluster. */
const LOOK_MS = 10_000;
const EVERYWHERE: Readonly<Record<IpFamily, string>> = { IPv4: "0.0.0.0", IPv6: "::" };
const BOTH = ["IPv4", "IPv6"] as const satisfies readonly IpFamily[];

function interestOf({ settings, outbound, hostPorts }: AgentOptions): Parameters<typeof openSource>[1] {
  return {
    node: settings.node,
    configMaps: configMapNames(settings),
    pods: hostPorts || outbound?.kind === "file",
  };
}

/** `undefined`: they have not come. */
function podsOf({ model, missing }: ClusterState): ClusterModel["pods"] | undefined {
  return missing?.has("Pod") ? undefined : model.pods;
}

function openConnections(count: number): string {
  return `IPVS virtual servers were left: ${count} connections are open through them; run it again.`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
