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
 * The steps: settings → Ingresses that count, oldest first → a plan each → shares by host → hosts → backends.
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { ClusterModel, Ingress } from "../../cluster/model.ts";
import {
  ANY_HOST,
  type Backend,
  type BackendName,
  EDGE_CONFIG_VERSION,
  type EdgeConfig,
  type HostConfig,
} from "../../edge-config/config.ts";
import type { ControllerSettings } from "../annotations/group.ts";
import { canaryIngress, serviceUpstream } from "../features/structure.ts";
import { addHosts } from "./added-hosts.ts";
import { findEndpoints } from "./backends.ts";
import { compileHost, type HostInput, type HostResult, hostTools } from "./hosts.ts";
import { whyNotOurs } from "./ingress-class.ts";
import { type Answer, createLookup, stillHolds } from "./lookup.ts";
import { type CompileOptions, DEFAULT_CONFIG_MAP } from "./options.ts";
import { compareText, nameOf, oldestFirst } from "./order.ts";
import { type BackendUse, backendName, type HostShare, type IngressPlan, planIngress } from "./plan.ts";
import { backendPolicies, edgePolicies, type Workshop } from "./policies.ts";
import { createReadingSource, type ReadingSource } from "./readings.ts";

export interface CompileResult {
  readonly config: EdgeConfig;
  /** Sorted by object, without duplicates. */
  readonly diagnostics: readonly Diagnostic[];
}

/** Compiles once. */
export function compile(model: ClusterModel, options: CompileOptions = {}): CompileResult {
  return createCompiler(options).compile(model);
}

export interface Compiler {
  readonly compile: (model: ClusterModel) => CompileResult;
}

/** Everything that follows from the Ingresses and the settings alone. */
interface Groundwork {
  readonly ingresses: readonly Ingress[];
  readonly classes: readonly unknown[];
  readonly settings: SettingsWork;
  readonly lastResort: BackendUse | undefined;
  readonly plans: readonly IngressPlan[];
  readonly inputs: ReadonlyMap<string, HostInput>;
  /** The oldest Ingress that names a backend. */
  readonly owners: ReadonlyMap<BackendName, IngressPlan>;
  readonly diagnostics: readonly Diagnostic[];
}

interface SettingsWork {
  readonly source: unknown;
  readonly readings: ReadingSource;
  readonly crossNamespace: boolean;
  readonly edge: Pick<EdgeConfig, "policies">;
  readonly diagnostics: readonly Diagnostic[];
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
  let settings: SettingsWork | undefined;
  let groundwork: Groundwork | undefined;
  let hosts: ReadonlyMap<string, HostWork> = new Map();
  let backends: ReadonlyMap<BackendName, BackendWork> = new Map();
  let config: EdgeConfig | undefined;

  const planOf = (ingress: Ingress): IngressPlan => {
    let plan = plans.get(ingress);
    if (plan === undefined) {
      plan = planIngress(ingress);
      plans.set(ingress, plan);
    }
    return plan;
  };

  return {
    compile(model) {
      const oldSettings = settings;
      settings = readSettings(model, options, oldSettings);
      groundwork = layGroundwork(model, options, settings, planOf, groundwork);
      hosts = compileHosts(model, options, groundwork, settings === oldSettings ? hosts : new Map());
      backends = compileBackends(
        model,
        options,
        groundwork,
        hosts,
        settings === oldSettings ? backends : new Map(),
      );
      const added = addHosts(groundwork.plans, hosts, settings.readings);
      config = assemble(settings, added.hosts, backends, config);
      return {
        config,
        diagnostics: gather(settings.diagnostics, groundwork, hosts, backends, added.diagnostics),
      };
    },
  };
}

function readSettings(
  model: ClusterModel,
  options: CompileOptions,
  known: SettingsWork | undefined,
): SettingsWork {
  const name = options.configMap ?? DEFAULT_CONFIG_MAP;
  const source = model.configMaps.get(name);
  if (known !== undefined && known.source === source) return known;
  const diagnostics: Diagnostic[] = [];
  if (source === undefined && options.configMap !== undefined) {
    diagnostics.push({
      severity: "warning",
      kind: "ConfigMap",
      object: name,
      message: "was named as the controller's ConfigMap, but does not exist; every setting has its default.",
    });
  }
  const settings: ControllerSettings = source === undefined ? { data: {} } : { name, data: source.data };
  const readings = createReadingSource(settings);
  const policies = edgePolicies(readings, name, diagnostics);
  return {
    source,
    readings,
    crossNamespace: settings.data["allow-cross-namespace-resources"]?.trim() === "true",
    edge: policies === undefined ? {} : { policies },
    diagnostics: [...readings.diagnostics, ...diagnostics],
  };
}

function layGroundwork(
  model: ClusterModel,
  options: CompileOptions,
  settings: SettingsWork,
  planOf: (ingress: Ingress) => IngressPlan,
  known: Groundwork | undefined,
): Groundwork {
  const ingresses = [...model.ingresses.values()];
  const classes = [...model.ingressClasses.values()];
  const lastResort = lastResortOf(model, options);
  if (
    known?.settings === settings &&
    known.lastResort?.name === lastResort?.name &&
    sameItems(known.ingresses, ingresses) &&
    sameItems(known.classes, classes)
  ) {
    return known;
  }
  const diagnostics: Diagnostic[] = [];
  if (options.defaultBackend !== undefined && lastResort === undefined) {
    diagnostics.push({
      severity: "warning",
      kind: "Service",
      object: options.defaultBackend,
      message:
        "was named as the default backend, but it does not exist or has no port; requests that no rule takes get 404.",
    });
  }
  const found: IngressPlan[] = [];
  const inputs = new Map<string, { shares: HostShare[]; canaries: HostShare[]; catchAll: IngressPlan[] }>();
  const owners = new Map<BackendName, IngressPlan>();
  const inputOf = (host: string): { shares: HostShare[]; canaries: HostShare[]; catchAll: IngressPlan[] } => {
    let input = inputs.get(host);
    if (input === undefined) {
      input = { shares: [], canaries: [], catchAll: [] };
      inputs.set(host, input);
    }
    return input;
  };
  for (const ingress of oldestFirst(ingresses)) {
    const whyNot = whyNotOurs(ingress, model.ingressClasses, options.ingressClass);
    if (whyNot !== undefined) {
      diagnostics.push({
        severity: "info",
        kind: "Ingress",
        object: nameOf(ingress),
        message: `is left out: ${whyNot}`,
      });
      continue;
    }
    const plan = planOf(ingress);
    const readings = settings.readings.of(plan);
    diagnostics.push(...plan.diagnostics, ...readings.diagnostics);
    const mark = readings.of(canaryIngress);
    if (mark.off !== undefined) continue; // The reading's diagnostic says why.
    found.push(plan);
    for (const use of plan.uses) if (!owners.has(use.name)) owners.set(use.name, plan);
    const isCanary = mark.annotations.canary;
    for (const share of plan.hosts.values()) {
      const input = inputOf(share.host);
      (isCanary ? input.canaries : input.shares).push(share);
    }
    if (plan.ingress.rules.length === 0 && plan.defaultBackend !== undefined) {
      if (isCanary) {
        diagnostics.push({
          severity: "error",
          kind: "Ingress",
          object: plan.name,
          field: plan.defaultBackend.field,
          message:
            "is the default backend of a canary, but only paths of rules can have canaries; it gets no requests.",
        });
      } else inputOf(ANY_HOST).catchAll.push(plan);
    }
  }
  if (lastResort !== undefined) inputOf(ANY_HOST);
  const [winner, ...losers] = inputs.get(ANY_HOST)?.catchAll ?? [];
  for (const loser of losers) {
    diagnostics.push({
      severity: "error",
      kind: "Ingress",
      object: loser.name,
      field: "spec.defaultBackend",
      message: `asks for every request that no rule takes, which go to the older Ingress ${winner?.name}; it gets no requests.`,
    });
  }
  const hostInputs = new Map<string, HostInput>();
  for (const host of [...inputs.keys()].sort(compareText)) {
    const input = inputOf(host);
    // A canary alone makes no host: requests for it are answered as if it did not exist (reference §1, Canary).
    if (host === ANY_HOST || input.shares.length > 0) hostInputs.set(host, { host, ...input, lastResort });
    else for (const share of input.canaries) diagnostics.push(...orphans(share));
  }
  return { ingresses, classes, settings, lastResort, plans: found, inputs: hostInputs, owners, diagnostics };
}

function orphans(share: HostShare): readonly Diagnostic[] {
  return share.paths.map(({ field }) => ({
    severity: "error",
    kind: "Ingress",
    object: share.plan.name,
    field,
    message: `is a canary, but no other Ingress has the host "${share.host}"; it gets no requests.`,
  }));
}

function lastResortOf(model: ClusterModel, options: CompileOptions): BackendUse | undefined {
  const service =
    options.defaultBackend === undefined ? undefined : model.services.get(options.defaultBackend);
  const port = service?.ports[0]?.port;
  if (service === undefined || port === undefined) return undefined;
  const { namespace, name } = service.meta;
  return {
    name: backendName(namespace, name, String(port)),
    namespace,
    service: name,
    port: String(port),
    field: "",
  };
}

function compileHosts(
  model: ClusterModel,
  options: CompileOptions,
  { inputs, settings }: Groundwork,
  known: ReadonlyMap<string, HostWork>,
): ReadonlyMap<string, HostWork> {
  const tools = { options, readings: settings.readings, crossNamespace: settings.crossNamespace };
  const works = new Map<string, HostWork>();
  let changed = known.size !== inputs.size;
  for (const [host, input] of inputs) {
    let work = known.get(host);
    if (work === undefined || !sameInput(work.input, input) || !stillHolds(work.result.answers, model)) {
      work = { input, result: compileHost(input, hostTools(tools, model)) };
      changed = true;
    }
    works.set(host, work);
  }
  return changed ? works : known;
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
  { owners, settings }: Groundwork,
  hosts: ReadonlyMap<string, HostWork>,
  known: ReadonlyMap<BackendName, BackendWork>,
): ReadonlyMap<BackendName, BackendWork> {
  const works = new Map<BackendName, BackendWork>();
  let changed = false;
  for (const { result } of hosts.values()) {
    for (const [name, use] of result.uses) {
      if (works.has(name)) continue;
      const owner = owners.get(name);
      let work = known.get(name);
      if (work === undefined || work.owner !== owner || !stillHolds(work.answers, model)) {
        work = compileBackend(model, options, settings, use, owner);
        changed = true;
      }
      works.set(name, work);
    }
  }
  return changed || works.size !== known.size ? works : known;
}

function compileBackend(
  model: ClusterModel,
  options: CompileOptions,
  { readings, crossNamespace }: SettingsWork,
  { namespace, service, port }: BackendUse,
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

function assemble(
  settings: SettingsWork,
  hosts: ReadonlyMap<string, HostConfig>,
  works: ReadonlyMap<BackendName, BackendWork>,
  known: EdgeConfig | undefined,
): EdgeConfig {
  const backends = new Map(
    Array.from(works, ([name, { backend }]): [BackendName, Backend] => [name, backend]),
  );
  return {
    version: EDGE_CONFIG_VERSION,
    ...settings.edge,
    hosts: sortedRecord(hosts, known?.hosts),
    backends: sortedRecord(backends, known?.backends),
  };
}

/** The record that is known already where nothing in it changed, so that its keys need no sorting again. */
function sortedRecord<T>(
  items: ReadonlyMap<string, T>,
  known: Readonly<Record<string, T>> | undefined,
): Readonly<Record<string, T>> {
  if (known !== undefined) {
    const keys = Object.keys(known);
    if (keys.length === items.size && keys.every((key) => items.has(key))) {
      if (keys.every((key) => items.get(key) === known[key])) return known;
      return recordOf(keys, items);
    }
  }
  return recordOf([...items.keys()].sort(compareText), items);
}

function recordOf<T>(keys: readonly string[], items: ReadonlyMap<string, T>): Readonly<Record<string, T>> {
  const record: Record<string, T> = {};
  for (const key of keys) {
    const item = items.get(key);
    if (item !== undefined) record[key] = item;
  }
  return record;
}

function gather(
  ofSettings: readonly Diagnostic[],
  { plans, diagnostics }: Groundwork,
  hosts: ReadonlyMap<string, HostWork>,
  backends: ReadonlyMap<BackendName, BackendWork>,
  ofAdded: readonly Diagnostic[],
): readonly Diagnostic[] {
  const all: Diagnostic[] = [...ofSettings, ...diagnostics, ...ofAdded];
  for (const { result } of hosts.values()) all.push(...result.diagnostics);
  for (const work of backends.values()) all.push(...work.diagnostics);
  for (const plan of plans) {
    for (const { name, field } of plan.uses) {
      const trouble = backends.get(name)?.trouble;
      if (trouble !== undefined) all.push({ ...trouble, kind: "Ingress", object: plan.name, field });
    }
  }
  return sortDiagnostics(all);
}

/** By object, field and text; each once. */
export function sortDiagnostics(diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  const byKey = new Map<string, Diagnostic>();
  for (const diagnostic of diagnostics) {
    const { kind, object, field = "", severity, message } = diagnostic;
    byKey.set([kind, object, field, severity, message].join("\u0000"), diagnostic);
  }
  return [...byKey.keys()].sort(compareText).flatMap((key) => byKey.get(key) ?? []);
}
