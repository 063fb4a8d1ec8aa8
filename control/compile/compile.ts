/**
 * The cluster becomes the configuration of the edge.
 *
 * In: a ClusterModel. Out: an EdgeConfig and everything there is to say about the input. Pure: the same objects,
 * in any order, give the same bytes.
 *
 * A compiler remembers what it made from which objects, so that one changed endpoint costs one backend and one
 * changed Ingress the hosts that it names. Memory saves work and never changes a result; whatever is unchanged
 * is the very same object as before, which is what the writer of shards goes by.
 *
 * The steps: settings (`settings-work.ts`) → the Ingresses that count, oldest first, a plan each, shares by host
 * (`groundwork.ts`) → hosts → their names → backends.
 */

import { isDeepStrictEqual } from "node:util";
import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { ClusterModel, Ingress } from "../../cluster/model.ts";
import { SortedMap } from "../../cluster/sorted-map.ts";
import {
  type Backend,
  type BackendName,
  EDGE_CONFIG_VERSION,
  type EdgeConfig,
  type HostConfig,
} from "../../edge-config/config.ts";
import type { ConfigDelta } from "../../edge-config/shards.ts";
import { serverAlias, serviceUpstream } from "../features/structure.ts";
import { addHosts } from "./added-hosts.ts";
import { findEndpoints } from "./backends.ts";
import { type Groundwork, layGroundwork } from "./groundwork.ts";
import { compileHost, type HostInput, type HostResult, hostTools } from "./hosts.ts";
import { type Answer, Askers, type Changes, changesBetween, createLookup, stillHolds } from "./lookup.ts";
import type { CompileOptions } from "./options.ts";
import { compareText } from "./order.ts";
import { type BackendPlace, type BackendUse, type IngressPlan, planIngress } from "./plan.ts";
import { backendPolicies, type Workshop } from "./policies.ts";
import { readSettings, type SettingsWork } from "./settings-work.ts";
import { listTold, retell, type Told, tell } from "./told.ts";

export interface CompileResult {
  readonly config: EdgeConfig;
  /** Sorted by object, without duplicates; the very same list as before when nothing else is to be said. */
  readonly diagnostics: readonly Diagnostic[];
  /** What sets it apart from the configuration before; absent where that is not known to be little. */
  readonly delta?: ConfigDelta;
}

/** Compiles once. */
export function compile(model: ClusterModel, options: CompileOptions = {}): CompileResult {
  return createCompiler(options).compile(model);
}

export interface Compiler {
  readonly compile: (model: ClusterModel) => CompileResult;
}

interface HostWork {
  readonly input: HostInput;
  readonly result: HostResult;
}

interface BackendWork {
  readonly owner: IngressPlan | undefined;
  readonly answers: readonly Answer[];
  readonly backend: Backend;
  readonly diagnostics: readonly Diagnostic[];
  readonly trouble?: Pick<Diagnostic, "severity" | "message">;
}

export function createCompiler(options: CompileOptions = {}): Compiler {
  const plans = new WeakMap<Ingress, IngressPlan>();
  const planOf = (ingress: Ingress): IngressPlan => {
    let plan = plans.get(ingress);
    if (plan === undefined) {
      plan = planIngress(ingress);
      plans.set(ingress, plan);
    }
    return plan;
  };
  let before: Work | undefined;

  return {
    compile(model) {
      const last = before;
      // Whatever breaks off in the middle leaves nothing to build upon.
      before = undefined;
      const settings = readSettings(model, options, last?.settings);
      // Another ConfigMap may change anything, so nothing is kept then.
      const kept = settings === last?.settings ? last : undefined;
      const changes = kept === undefined ? undefined : changesBetween(kept.model, model);
      const groundwork = layGroundwork(model, { options, settings, planOf }, kept?.groundwork);
      const hosts = compileHosts(model, options, groundwork, kept, changes);
      const sameHosts = kept !== undefined && hosts === kept.hosts && groundwork === kept.groundwork;
      const named = sameHosts ? kept.named : nameHosts(groundwork, hosts, kept);
      const backends = compileBackends(model, options, groundwork, named, kept, changes);
      const record = sameHosts ? kept.record : lazy(() => recordOf(named.hosts));
      const config = configOf(
        settings.edge,
        record,
        lazy(() => recordOfBackends(backends)),
      );
      const all = { model, settings, groundwork, hosts, named, backends };
      const result = kept === undefined ? whole(all, config) : changed(kept, all, config);
      // How it came about is of no use any more, and would hold on to everything before it.
      const { edit: _, ...ground } = groundwork;
      const { since: __, ...names } = named;
      before = {
        ...all,
        groundwork: groundwork.edit === undefined ? groundwork : ground,
        named: named.since === undefined ? named : names,
        result,
        record,
        askers: kept?.askers ?? new WeakMap(),
      };
      return result;
    },
  };
}

interface Parts {
  readonly model: ClusterModel;
  readonly settings: SettingsWork;
  readonly groundwork: Groundwork;
  readonly hosts: HostWorks;
  readonly named: NamedHosts;
  readonly backends: BackendWorks;
}

/** Everything that one compilation made, for the next one. */
interface Work extends Parts {
  readonly result: CompileResult;
  /** Of `named`, for `EdgeConfig.hosts`. */
  readonly record: () => EdgeConfig["hosts"];
  /** By the works that they belong to; made when they are first needed. */
  readonly askers: WeakMap<HostWorks | BackendWorks, Askers<string>>;
}

type HostWorks = SortedMap<string, HostWork>;
type BackendWorks = SortedMap<BackendName, BackendWork>;

function whole({ groundwork, named, backends }: Parts, config: EdgeConfig): CompileResult {
  return { config, diagnostics: gather(groundwork, named, backends) };
}

/** What sets the parts apart from those before, which is little nearly always. */
function changed(before: Work, { groundwork, named, backends }: Parts, config: EdgeConfig): CompileResult {
  const hosts = new Map<string, HostConfig | undefined>();
  if (named !== before.named) {
    for (const [host, value] of named.hosts)
      if (before.named.hosts.get(host) !== value) hosts.set(host, value);
    for (const host of before.named.hosts.keys()) if (!named.hosts.has(host)) hosts.set(host, undefined);
  }
  const others = new Map<BackendName, Backend | undefined>();
  let saysTheSame = groundwork === before.groundwork && named === before.named;
  for (const name of backends.changedSince(before.backends)) {
    const [old, now] = [before.backends.get(name), backends.get(name)];
    if (!isDeepStrictEqual(old?.backend, now?.backend)) others.set(name, now?.backend);
    saysTheSame &&=
      isDeepStrictEqual(old?.diagnostics, now?.diagnostics) && isDeepStrictEqual(old?.trouble, now?.trouble);
  }
  const since = before.result.config;
  return {
    // What reads otherwise and means the same (a condition of an endpoint that does not count) is no change.
    config: hosts.size === 0 && others.size === 0 ? since : config,
    diagnostics: saysTheSame ? before.result.diagnostics : gather(groundwork, named, backends),
    delta: { since, hosts, backends: others },
  };
}

/** The records of all hosts and backends are made when somebody asks for them; a publication asks for what has changed. */
function configOf(
  edge: SettingsWork["edge"],
  hosts: () => EdgeConfig["hosts"],
  backends: () => EdgeConfig["backends"],
): EdgeConfig {
  return {
    version: EDGE_CONFIG_VERSION,
    ...edge,
    get hosts() {
      return hosts();
    },
    get backends() {
      return backends();
    },
  };
}

function lazy<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** The hosts under all of their names, with every backend that they name. */
interface NamedHosts {
  readonly hosts: SortedMap<string, HostConfig>;
  /** With the number of hosts that name it. */
  readonly uses: SortedMap<BackendName, { readonly use: BackendUse; readonly hosts: number }>;
  /** All but those of backends. */
  readonly told: Told;
  /** Every host has its own name alone, and no others. */
  readonly isPlain: boolean;
  /** Which one it was made from; absent: it was made anew. */
  readonly since?: NamedHosts;
}

function nameHosts(groundwork: Groundwork, works: HostWorks, kept: Work | undefined): NamedHosts {
  return (kept && renameHosts(groundwork, works, kept)) ?? nameAllHosts(groundwork, works);
}

function nameAllHosts({ plans, settings, diagnostics: ofPlans }: Groundwork, works: HostWorks): NamedHosts {
  const { hosts, diagnostics } = addHosts(plans, works, settings.readings);
  const uses = new Map<BackendName, { readonly use: BackendUse; readonly hosts: number }>();
  const all: Diagnostic[] = [...settings.diagnostics, ...ofPlans, ...diagnostics];
  let isPlain = !plans.some((plan) => hasAliases(plan, settings));
  for (const { result } of works.values()) {
    isPlain &&= result.added.length === 0;
    for (const [name, use] of result.uses) {
      const known = uses.get(name);
      uses.set(name, { use: known?.use ?? use, hosts: (known?.hosts ?? 0) + 1 });
    }
    all.push(...result.diagnostics);
  }
  return { hosts: SortedMap.from(hosts), uses: SortedMap.from(uses), told: tell(all), isPlain };
}

/** The short way for a few changed hosts. `undefined` where they may change the names of others. */
function renameHosts({ settings, edit }: Groundwork, works: HostWorks, kept: Work): NamedHosts | undefined {
  const before = kept.named;
  if (edit?.since !== kept.groundwork || !before.isPlain) return undefined;
  if (edit.plans.some((plan) => hasAliases(plan, settings))) return undefined;
  const hosts = new Map<string, HostConfig | undefined>();
  const uses = new Map<BackendName, { readonly use: BackendUse; readonly hosts: number } | undefined>();
  const dropped = [...edit.dropped];
  const added = [...edit.added];
  const count = (use: BackendUse, by: 1 | -1): void => {
    const known = uses.has(use.name) ? uses.get(use.name) : before.uses.get(use.name);
    const sum = (known?.hosts ?? 0) + by;
    uses.set(use.name, sum === 0 ? undefined : { use: known?.use ?? use, hosts: sum });
  };
  for (const host of works.changedSince(kept.hosts)) {
    const [old, now] = [kept.hosts.get(host)?.result, works.get(host)?.result];
    if (now !== undefined && now.added.length > 0) return undefined;
    hosts.set(host, now?.config);
    for (const use of now?.uses.values() ?? []) count(use, 1);
    for (const use of old?.uses.values() ?? []) count(use, -1);
    dropped.push(...(old?.diagnostics ?? []));
    added.push(...(now?.diagnostics ?? []));
  }
  return {
    hosts: before.hosts.with(hosts),
    uses: before.uses.with(uses),
    told: retell(before.told, dropped, added),
    isPlain: true,
    since: before,
  };
}

function hasAliases(plan: IngressPlan, { readings }: SettingsWork): boolean {
  return readings.of(plan).touched.has(serverAlias);
}

function compileHosts(
  model: ClusterModel,
  options: CompileOptions,
  groundwork: Groundwork,
  kept: Work | undefined,
  changes: Changes | undefined,
): HostWorks {
  const { inputs, settings } = groundwork;
  const tools = { options, readings: settings.readings, crossNamespace: settings.crossNamespace };
  const usable = (host: string, input: HostInput): HostWork | undefined => {
    const work = kept?.hosts.get(host);
    if (work === undefined || changes === undefined) return undefined;
    return sameInput(work.input, input) && stillHolds(work.result.answers, changes) ? work : undefined;
  };
  const make = (input: HostInput): HostWork => ({
    input,
    result: compileHost(input, hostTools(tools, model)),
  });
  const isNear = kept?.groundwork === groundwork || kept?.groundwork === groundwork.edit?.since;
  if (kept !== undefined && changes !== undefined && isNear) {
    const { hosts } = kept;
    const askers = askersOf(kept.askers, hosts, () =>
      Array.from(hosts, ([host, { result }]) => [host, result.answers] as const),
    );
    const edited = kept.groundwork === groundwork ? [] : (groundwork.edit?.hosts ?? []);
    const made = new Map<string, HostWork | undefined>();
    for (const host of new Set([...edited, ...askers.staleAfter(changes)])) {
      const input = inputs.get(host);
      const work = input && make(input);
      askers.replace(host, hosts.get(host)?.result.answers ?? [], work?.result.answers ?? []);
      made.set(host, work);
    }
    return moveAskers(kept.askers, askers, hosts, hosts.with(made));
  }
  return SortedMap.from(Array.from(inputs, ([host, input]) => [host, usable(host, input) ?? make(input)]));
}

function sameInput(a: HostInput, b: HostInput): boolean {
  return (
    a === b ||
    (sameItems(a.shares, b.shares) &&
      sameItems(a.canaries, b.canaries) &&
      sameItems(a.catchAll, b.catchAll) &&
      a.lastResort?.name === b.lastResort?.name)
  );
}

function sameItems(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a === b || (a.length === b.length && a.every((item, index) => item === b[index]));
}

function compileBackends(
  model: ClusterModel,
  options: CompileOptions,
  { owners, settings, edit }: Groundwork,
  named: NamedHosts,
  kept: Work | undefined,
  changes: Changes | undefined,
): BackendWorks {
  const isNear = kept?.named === named || kept?.named === named.since;
  if (kept !== undefined && changes !== undefined && isNear) {
    const { backends } = kept;
    const askers = askersOf(kept.askers, backends, () =>
      Array.from(backends, ([name, { answers }]) => [name, answers] as const),
    );
    const edited =
      kept.named === named ? [] : [...named.uses.changedSince(kept.named.uses), ...(edit?.backends ?? [])];
    const made = new Map<BackendName, BackendWork | undefined>();
    for (const name of new Set([...edited, ...askers.staleAfter(changes)])) {
      const place = named.uses.get(name)?.use;
      const work = place && compileBackend(model, options, settings, place, owners.get(name));
      askers.replace(name, backends.get(name)?.answers ?? [], work?.answers ?? []);
      made.set(name, work);
    }
    return moveAskers(kept.askers, askers, backends, backends.with(made));
  }
  const works: [BackendName, BackendWork][] = [];
  for (const [name, { use }] of named.uses) {
    const owner = owners.get(name);
    const work = kept?.backends.get(name);
    const usable =
      work !== undefined &&
      work.owner === owner &&
      changes !== undefined &&
      stillHolds(work.answers, changes);
    works.push([name, usable ? work : compileBackend(model, options, settings, use, owner)]);
  }
  const all = SortedMap.from(works);
  // Who asks what is nearly the same as before; made anew it would cost more than all the rest.
  const askers = kept?.askers.get(kept.backends);
  if (kept !== undefined && askers !== undefined) {
    for (const name of all.changedSince(kept.backends))
      askers.replace(name, kept.backends.get(name)?.answers ?? [], all.get(name)?.answers ?? []);
    moveAskers(kept.askers, askers, kept.backends, all);
  }
  return all;
}

/** The questions are those of other works from here on, which are returned. */
function moveAskers<W extends HostWorks | BackendWorks>(
  known: Work["askers"],
  askers: Askers<string>,
  from: W,
  to: W,
): W {
  known.delete(from);
  known.set(to, askers);
  return to;
}

function askersOf<W extends HostWorks | BackendWorks>(
  known: WeakMap<HostWorks | BackendWorks, Askers<string>>,
  works: W,
  answers: () => Iterable<readonly [string, readonly Answer[]]>,
): Askers<string> {
  let askers = known.get(works);
  if (askers === undefined) {
    askers = new Askers(answers());
    known.set(works, askers);
  }
  return askers;
}

function compileBackend(
  model: ClusterModel,
  options: CompileOptions,
  { readings, crossNamespace }: SettingsWork,
  { namespace, service, port }: BackendPlace,
  owner: IngressPlan | undefined,
): BackendWork {
  const lookup = createLookup(model);
  const shop: Workshop = { options, readings, lookup, crossNamespace, diagnostics: [], uses: new Map() };
  const useClusterIp = readings.of(owner).of(serviceUpstream).annotations["service-upstream"];
  const place = { namespace, service, port };
  const { endpoints, trouble } = findEndpoints(place, lookup, options, useClusterIp);
  const policies = backendPolicies(owner, place, shop);
  return {
    owner,
    answers: lookup.answers,
    backend: { ...place, endpoints, ...(policies === undefined ? {} : { policies }) },
    diagnostics: shop.diagnostics,
    ...(trouble === undefined ? {} : { trouble }),
  };
}

function recordOf<T>(items: ReadonlyMap<string, T>): Readonly<Record<string, T>> {
  return Object.fromEntries([...items].sort(([a], [b]) => compareText(a, b)));
}

/** The works are in order already. A plain loop: spreading a record of 10 000 keys takes three times as long. */
function recordOfBackends(works: BackendWorks): EdgeConfig["backends"] {
  const record: Record<BackendName, Backend> = {};
  for (const [name, { backend }] of works) record[name] = backend;
  return record;
}

function gather({ plans }: Groundwork, { told }: NamedHosts, backends: BackendWorks): readonly Diagnostic[] {
  const ofBackends: Diagnostic[] = [];
  const troubles = new Map<BackendName, Pick<Diagnostic, "severity" | "message">>();
  for (const [name, { diagnostics, trouble }] of backends) {
    ofBackends.push(...diagnostics);
    if (trouble !== undefined) troubles.set(name, trouble);
  }
  for (const plan of troubles.size > 0 ? plans : []) {
    for (const { name, field } of plan.uses) {
      const trouble = troubles.get(name);
      if (trouble !== undefined) ofBackends.push({ ...trouble, kind: "Ingress", object: plan.name, field });
    }
  }
  return listTold(told, ofBackends);
}
