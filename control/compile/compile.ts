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
import type { Backend, BackendName, EdgeConfig, HostConfig } from "../../edge-config/config.ts";
import type { ConfigDelta } from "../../edge-config/shards.ts";
import { serverAlias, serviceUpstream } from "../features/structure.ts";
import { type AddedHosts, addHosts } from "./added-hosts.ts";
import { findEndpoints } from "./backends.ts";
import { type Groundwork, layGroundwork } from "./groundwork.ts";
import { compileHost, type HostInput, type HostResult, hostTools } from "./hosts.ts";
import { lazyConfig } from "./lazy-config.ts";
import { type Answer, Askers, type Changes, changesBetween, createLookup, stillHolds } from "./lookup.ts";
import type { CompileOptions } from "./options.ts";
import { isOlder } from "./order.ts";
import { type BackendPlace, type BackendUse, type IngressPlan, planIngress } from "./plan.ts";
import { backendPolicies, type Workshop } from "./policies.ts";
import { readSettings, type SettingsWork } from "./settings-work.ts";
import { listTold, retell, type Told, tell } from "./told.ts";

export interface CompileResult {
  readonly config: EdgeConfig;
  /** Those of `config`, which makes its records when they are asked for; what is the same as before is shared. */
  readonly hosts: SortedMap<string, HostConfig>;
  readonly backends: SortedMap<BackendName, Backend>;
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
      const named =
        kept !== undefined && hosts === kept.hosts && groundwork === kept.groundwork
          ? kept.named
          : nameHosts(groundwork, hosts, kept);
      const works = compileBackends(model, options, groundwork, named, kept, changes);
      const parts = { model, settings, groundwork, hosts, named, works };
      const result = kept === undefined ? whole(parts) : changed(kept, parts);
      // How it came about is of no use any more, and would hold on to everything before it.
      const { edit: _, ...ground } = groundwork;
      const { since: __, ...names } = named;
      before = {
        ...parts,
        groundwork: groundwork.edit === undefined ? groundwork : ground,
        named: named.since === undefined ? named : names,
        result,
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
  readonly works: BackendWorks;
}

/** Everything that one compilation made, for the next one. */
interface Work extends Parts {
  readonly result: CompileResult;
  /** By the works that they belong to; made when they are first needed. */
  readonly askers: WeakMap<HostWorks | BackendWorks, Askers<string>>;
}

type HostWorks = SortedMap<string, HostWork>;
type BackendWorks = SortedMap<BackendName, BackendWork>;

function whole({ settings, groundwork, named, works }: Parts): CompileResult {
  const { hosts } = named;
  const backends = SortedMap.from(Array.from(works, ([name, { backend }]) => [name, backend] as const));
  return {
    config: lazyConfig(settings.edge, hosts, backends),
    hosts,
    backends,
    diagnostics: gather(groundwork, named, works),
  };
}

/** What sets the parts apart from those before, which is little nearly always. */
function changed(before: Work, { settings, groundwork, named, works }: Parts): CompileResult {
  const last = before.result;
  const { hosts } = named;
  const changedHosts = new Map<string, HostConfig | undefined>();
  for (const host of hosts.changedSince(last.hosts)) changedHosts.set(host, hosts.get(host));
  const changedBackends = new Map<BackendName, Backend | undefined>();
  let saysTheSame = named.told === before.named.told && !tellsTroubles(before, groundwork, works);
  for (const name of works.changedSince(before.works)) {
    const [old, now] = [before.works.get(name), works.get(name)];
    // What reads otherwise and means the same (a condition of an endpoint that does not count) is no change.
    if (!isDeepStrictEqual(old?.backend, now?.backend)) changedBackends.set(name, now?.backend);
    saysTheSame &&=
      isDeepStrictEqual(old?.diagnostics ?? [], now?.diagnostics ?? []) &&
      isDeepStrictEqual(old?.trouble, now?.trouble);
  }
  const backends = last.backends.with(changedBackends);
  const isSame = changedHosts.size === 0 && changedBackends.size === 0;
  return {
    config: isSame ? last.config : lazyConfig(settings.edge, hosts, backends),
    hosts,
    backends,
    diagnostics: saysTheSame ? last.diagnostics : gather(groundwork, named, works),
    delta: {
      since: last.config,
      hosts: changedHosts,
      backends: changedBackends,
      backend: (name) => backends.get(name),
    },
  };
}

/** Whether an Ingress came or went that is told of the trouble of a backend. */
function tellsTroubles(before: Work, { edit, ...groundwork }: Groundwork, works: BackendWorks): boolean {
  if (groundwork.plans === before.groundwork.plans) return false;
  if (edit?.since !== before.groundwork) return true;
  const isTroubled = ({ uses }: IngressPlan): boolean =>
    uses.some(
      ({ name }) => works.get(name)?.trouble !== undefined || before.works.get(name)?.trouble !== undefined,
    );
  return edit.plans.some(isTroubled) || edit.gone.some(isTroubled);
}

/** The hosts under all of their names, with every backend that they name. */
interface NamedHosts {
  readonly hosts: SortedMap<string, HostConfig>;
  /** With the number of hosts that name it. */
  readonly uses: SortedMap<BackendName, { readonly use: BackendUse; readonly hosts: number }>;
  /** All but those of backends. */
  readonly told: Told;
  /** Those that no rule names. */
  readonly added: AddedHosts;
  /** Ingresses that give their hosts further names, the oldest first. */
  readonly aliasing: readonly IngressPlan[];
  /** Hosts that bring others along. */
  readonly adding: SortedMap<string, HostResult>;
  /** Which one it was made from; absent: it was made anew. */
  readonly since?: NamedHosts;
}

function nameHosts(groundwork: Groundwork, works: HostWorks, kept: Work | undefined): NamedHosts {
  const isNear =
    kept?.groundwork === groundwork || (kept !== undefined && kept.groundwork === groundwork.edit?.since);
  return isNear && kept !== undefined
    ? renameHosts(groundwork, works, kept)
    : nameAllHosts(groundwork, works);
}

function nameAllHosts({ plans, settings, diagnostics: ofPlans }: Groundwork, works: HostWorks): NamedHosts {
  const aliasing = plans.filter((plan) => hasAliases(plan, settings));
  const adding: [string, HostResult][] = [];
  const hosts: [string, HostConfig][] = [];
  const uses = new Map<BackendName, { readonly use: BackendUse; readonly hosts: number }>();
  const all: Diagnostic[] = [...settings.diagnostics, ...ofPlans];
  for (const [host, { result }] of works) {
    hosts.push([host, result.config]);
    if (result.added.length > 0) adding.push([host, result]);
    for (const [name, use] of result.uses) {
      const known = uses.get(name);
      uses.set(name, { use: known?.use ?? use, hosts: (known?.hosts ?? 0) + 1 });
    }
    all.push(...result.diagnostics);
  }
  const sortedAdding = SortedMap.from(adding);
  const added = addHosts(aliasing, works, sortedAdding, settings.readings);
  return {
    hosts: SortedMap.from([...hosts, ...added.hosts]),
    uses: SortedMap.from(uses),
    told: tell([...all, ...added.diagnostics]),
    added,
    aliasing,
    adding: sortedAdding,
  };
}

/** For a few changed hosts: no other one is looked at. */
function renameHosts({ settings, edit }: Groundwork, works: HostWorks, kept: Work): NamedHosts {
  const before = kept.named;
  const hosts = new Map<string, HostConfig | undefined>();
  const adding = new Map<string, HostResult | undefined>();
  const uses = new Map<BackendName, { readonly use: BackendUse; readonly hosts: number } | undefined>();
  const dropped = [...(edit?.dropped ?? []), ...before.added.diagnostics];
  const told = [...(edit?.added ?? [])];
  const count = (use: BackendUse, by: 1 | -1): void => {
    const known = uses.has(use.name) ? uses.get(use.name) : before.uses.get(use.name);
    const sum = (known?.hosts ?? 0) + by;
    uses.set(use.name, sum === 0 ? undefined : { use: known?.use ?? use, hosts: sum });
  };
  for (const host of works.changedSince(kept.hosts)) {
    const [old, now] = [kept.hosts.get(host)?.result, works.get(host)?.result];
    hosts.set(host, now?.config);
    adding.set(host, now !== undefined && now.added.length > 0 ? now : undefined);
    for (const use of now?.uses.values() ?? []) count(use, 1);
    for (const use of old?.uses.values() ?? []) count(use, -1);
    dropped.push(...(old?.diagnostics ?? []));
    told.push(...(now?.diagnostics ?? []));
  }
  const aliasing = aliasingAfter(before.aliasing, edit, settings);
  const addingNow = before.adding.with(adding);
  const added = addHosts(aliasing, works, addingNow, settings.readings);
  told.push(...added.diagnostics);
  for (const host of before.added.hosts.keys()) if (!works.has(host)) hosts.set(host, undefined);
  for (const [host, config] of added.hosts) hosts.set(host, config);
  return {
    hosts: before.hosts.with(hosts),
    uses: before.uses.with(uses),
    told: retell(before.told, dropped, told),
    added,
    aliasing,
    adding: addingNow,
    since: before,
  };
}

function aliasingAfter(
  before: readonly IngressPlan[],
  edit: Groundwork["edit"],
  settings: SettingsWork,
): readonly IngressPlan[] {
  const come = edit?.plans.filter((plan) => hasAliases(plan, settings)) ?? [];
  if (come.length === 0 && !edit?.gone.some((plan) => before.includes(plan))) return before;
  return [...before.filter((plan) => !edit?.gone.includes(plan)), ...come].sort((one, other) =>
    isOlder(one.ingress, other.ingress) ? -1 : 1,
  );
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
    const { works } = kept;
    const askers = askersOf(kept.askers, works, () =>
      Array.from(works, ([name, { answers }]) => [name, answers] as const),
    );
    const edited =
      kept.named === named ? [] : [...named.uses.changedSince(kept.named.uses), ...(edit?.backends ?? [])];
    const made = new Map<BackendName, BackendWork | undefined>();
    for (const name of new Set([...edited, ...askers.staleAfter(changes)])) {
      const place = named.uses.get(name)?.use;
      const work = place && compileBackend(model, options, settings, place, owners.get(name));
      askers.replace(name, works.get(name)?.answers ?? [], work?.answers ?? []);
      made.set(name, work);
    }
    return moveAskers(kept.askers, askers, works, works.with(made));
  }
  const made: [BackendName, BackendWork][] = [];
  for (const [name, { use }] of named.uses) {
    const owner = owners.get(name);
    const work = kept?.works.get(name);
    const usable =
      work !== undefined &&
      work.owner === owner &&
      changes !== undefined &&
      stillHolds(work.answers, changes);
    made.push([name, usable ? work : compileBackend(model, options, settings, use, owner)]);
  }
  const all = SortedMap.from(made);
  // Who asks what is nearly the same as before; made anew it would cost more than all the rest.
  const askers = kept?.askers.get(kept.works);
  if (kept !== undefined && askers !== undefined) {
    for (const name of all.changedSince(kept.works))
      askers.replace(name, kept.works.get(name)?.answers ?? [], all.get(name)?.answers ?? []);
    moveAskers(kept.askers, askers, kept.works, all);
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
