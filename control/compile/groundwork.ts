/**
 * Everything that follows from the Ingresses and the settings alone: which of them count, who is older, what each host is
 * made of, and whose annotations hold for a backend.
 *
 * In: a model. Out: the groundwork; the very same when no Ingress has changed. When a few have, only their hosts and
 * backends are laid anew (`edit`), with the same result as if all were (`compile.test.ts` compares them).
 * Not here: what a host becomes (`hosts.ts`).
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { ClusterModel, Ingress, ObjectName } from "../../cluster/model.ts";
import { SortedMap } from "../../cluster/sorted-map.ts";
import { ANY_HOST, type BackendName } from "../../edge-config/config.ts";
import { canaryIngress } from "../features/structure.ts";
import type { HostInput } from "./hosts.ts";
import { whyNotOurs } from "./ingress-class.ts";
import type { CompileOptions } from "./options.ts";
import { isOlder, nameOf, oldestFirst } from "./order.ts";
import { type BackendUse, backendName, type HostShare, type IngressPlan } from "./plan.ts";
import type { SettingsWork } from "./settings-work.ts";

export interface Groundwork {
  readonly model: Pick<ClusterModel, "ingresses" | "ingressClasses">;
  readonly settings: SettingsWork;
  readonly lastResort: BackendUse | undefined;
  /** The oldest first. */
  readonly plans: readonly IngressPlan[];
  readonly inputs: SortedMap<string, HostInput>;
  /** The oldest Ingress that names a backend. */
  readonly owners: SortedMap<BackendName, IngressPlan>;
  readonly diagnostics: readonly Diagnostic[];
  /** Canaries of hosts that nobody has; an Ingress that takes such a host changes what was said of them. */
  readonly hasOrphans: boolean;
  /** How it differs from another one; absent: it was laid anew. */
  readonly edit?: GroundworkEdit;
}

export interface GroundworkEdit {
  readonly since: Groundwork;
  /** Whose inputs are others than before, those that came and went included. */
  readonly hosts: ReadonlySet<string>;
  /** Whose owners are others than before. */
  readonly backends: ReadonlySet<BackendName>;
  /** Of the Ingresses that came, or came in the place of another version. */
  readonly plans: readonly IngressPlan[];
  /** Of those that went, or gave way to another version. */
  readonly gone: readonly IngressPlan[];
  readonly dropped: readonly Diagnostic[];
  readonly added: readonly Diagnostic[];
}

/** More changed Ingresses than this at once, and all is laid anew. */
const MOST_EDITS = 32;

export interface GroundworkTools {
  readonly options: CompileOptions;
  readonly settings: SettingsWork;
  /** Remembers. */
  readonly planOf: (ingress: Ingress) => IngressPlan;
}

export function layGroundwork(
  model: ClusterModel,
  tools: GroundworkTools,
  known: Groundwork | undefined,
): Groundwork {
  const lastResort = lastResortOf(model, tools.options);
  if (
    known?.settings === tools.settings &&
    known.lastResort?.name === lastResort?.name &&
    sameValues(known.model.ingressClasses, model.ingressClasses)
  ) {
    if (sameValues(known.model.ingresses, model.ingresses)) return known;
    const edited = edit(model, tools, known);
    if (edited !== undefined) return edited;
  }
  return layAnew(model, tools, lastResort);
}

/** What one Ingress brings along. */
interface Contribution {
  /** Absent: it does not count, and a diagnostic says why. */
  readonly plan?: IngressPlan;
  readonly isCanary: boolean;
  readonly diagnostics: readonly Diagnostic[];
}

function contributionOf(
  ingress: Ingress,
  classes: ClusterModel["ingressClasses"],
  { options, settings, planOf }: GroundworkTools,
): Contribution {
  const whyNot = whyNotOurs(ingress, classes, options.ingressClass);
  if (whyNot !== undefined) {
    const message = `is left out: ${whyNot}`;
    return {
      isCanary: false,
      diagnostics: [{ severity: "info", kind: "Ingress", object: nameOf(ingress), message }],
    };
  }
  const plan = planOf(ingress);
  const readings = settings.readings.of(plan);
  const diagnostics = [...plan.diagnostics, ...readings.diagnostics];
  const mark = readings.of(canaryIngress);
  // The reading's diagnostic says why.
  if (mark.off !== undefined) return { isCanary: false, diagnostics };
  return { plan, isCanary: mark.annotations.canary === true, diagnostics };
}

function isCatchAll({ ingress, defaultBackend }: IngressPlan): boolean {
  return ingress.rules.length === 0 && defaultBackend !== undefined;
}

function layAnew(
  model: ClusterModel,
  tools: GroundworkTools,
  lastResort: BackendUse | undefined,
): Groundwork {
  const { options, settings } = tools;
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
  for (const ingress of oldestFirst(model.ingresses.values())) {
    const { plan, isCanary, diagnostics: told } = contributionOf(ingress, model.ingressClasses, tools);
    diagnostics.push(...told);
    if (plan === undefined) continue;
    found.push(plan);
    for (const use of plan.uses) if (!owners.has(use.name)) owners.set(use.name, plan);
    for (const share of plan.hosts.values()) {
      const input = inputOf(share.host);
      (isCanary ? input.canaries : input.shares).push(share);
    }
    if (plan.defaultBackend !== undefined && isCatchAll(plan)) {
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
  const hostInputs: [string, HostInput][] = [];
  let hasOrphans = false;
  for (const [host, input] of inputs) {
    // A canary alone makes no host: requests for it are answered as if it did not exist (reference §1, Canary).
    if (host === ANY_HOST || input.shares.length > 0) hostInputs.push([host, { host, ...input, lastResort }]);
    else {
      hasOrphans = true;
      for (const share of input.canaries) diagnostics.push(...orphans(share));
    }
  }
  const { ingresses, ingressClasses } = model;
  return {
    model: { ingresses, ingressClasses },
    settings,
    lastResort,
    plans: found,
    inputs: SortedMap.from(hostInputs),
    owners: SortedMap.from(owners),
    diagnostics,
    hasOrphans,
  };
}

/** `undefined` where more than hosts and backends of the changed Ingresses may change: canaries, catch-alls. */
function edit(model: ClusterModel, tools: GroundworkTools, known: Groundwork): Groundwork | undefined {
  const { ingresses, ingressClasses } = model;
  const before = known.model.ingresses;
  if (known.hasOrphans || !(before instanceof SortedMap) || !(ingresses instanceof SortedMap))
    return undefined;
  const names = new Set<ObjectName>();
  for (const name of (ingresses as SortedMap<ObjectName, Ingress>).changedSince(
    before as SortedMap<ObjectName, Ingress>,
  )) {
    if (names.size === MOST_EDITS) return undefined;
    names.add(name);
  }

  const { lastResort } = known;
  const plans = known.plans.slice();
  const inputs = new Map<string, HostInput>();
  const backends = new Set<BackendName>();
  const added: Diagnostic[] = [];
  const come: IngressPlan[] = [];
  const gone: IngressPlan[] = [];
  const change = (host: string, shares: (now: readonly HostShare[]) => readonly HostShare[]): void => {
    const input = inputs.get(host) ??
      known.inputs.get(host) ?? { host, shares: [], canaries: [], catchAll: [], lastResort };
    inputs.set(host, { ...input, shares: shares(input.shares) });
  };
  for (const name of names) {
    for (const [ingress, isNew] of [
      [before.get(name), false],
      [ingresses.get(name), true],
    ] as const) {
      if (ingress === undefined) continue;
      const { plan, isCanary, diagnostics } = contributionOf(ingress, ingressClasses, tools);
      if (isNew) added.push(...diagnostics);
      if (plan === undefined) continue;
      if (isCanary || isCatchAll(plan)) return undefined;
      for (const use of plan.uses) backends.add(use.name);
      if (isNew) {
        come.push(plan);
        plans.splice(placeIn(plans, plan), 0, plan);
        for (const share of plan.hosts.values())
          change(share.host, (shares) => shares.toSpliced(placeOfShare(shares, share), 0, share));
      } else {
        gone.push(plan);
        plans.splice(plans.indexOf(plan), 1);
        for (const { host } of plan.hosts.values())
          change(host, (shares) => shares.filter((share) => share.plan !== plan));
      }
    }
  }

  const hostChanges = new Map<string, HostInput | undefined>();
  for (const [host, input] of inputs) {
    const isEmpty = input.shares.length === 0;
    // Its canaries have lost their main Ingress, which is to be told.
    if (isEmpty && input.canaries.length > 0) return undefined;
    const stays = !isEmpty || (host === ANY_HOST && (input.catchAll.length > 0 || lastResort !== undefined));
    hostChanges.set(host, stays ? input : undefined);
  }
  const ownerChanges = new Map<BackendName, IngressPlan | undefined>();
  for (const name of backends) {
    const before = known.owners.get(name);
    const owner = ownerAfter(name, before, gone, come) ?? plans.find((plan) => doesUse(plan, name));
    if (owner !== before) ownerChanges.set(name, owner);
  }
  // What is said of an Ingress by itself; what is said of canaries and catch-alls concerns none of these.
  const isDropped = ({ kind, object }: Diagnostic): boolean =>
    kind === "Ingress" && names.has(object as ObjectName);
  return {
    model: { ingresses, ingressClasses },
    settings: known.settings,
    lastResort,
    plans,
    inputs: known.inputs.with(hostChanges),
    owners: known.owners.with(ownerChanges),
    diagnostics: [...known.diagnostics.filter((one) => !isDropped(one)), ...added],
    hasOrphans: false,
    edit: {
      since: known,
      hosts: new Set(hostChanges.keys()),
      backends: new Set(ownerChanges.keys()),
      plans: come,
      gone,
      dropped: known.diagnostics.filter(isDropped),
      added,
    },
  };
}

/** The oldest Ingress that names a backend, after these went and came; `undefined`: it takes a look at all of them. */
function ownerAfter(
  name: BackendName,
  before: IngressPlan | undefined,
  gone: readonly IngressPlan[],
  come: readonly IngressPlan[],
): IngressPlan | undefined {
  const rivals = come.filter((plan) => doesUse(plan, name));
  if (before !== undefined && !gone.includes(before)) rivals.push(before);
  const [oldest] = rivals.sort((one, other) => (isOlder(one.ingress, other.ingress) ? -1 : 1));
  if (oldest === undefined) return undefined;
  // The one before was the oldest of all, so whoever is no younger than it has no older one but among these.
  return before === undefined || oldest === before || !isOlder(before.ingress, oldest.ingress)
    ? oldest
    : undefined;
}

function doesUse({ uses }: IngressPlan, name: BackendName): boolean {
  return uses.some((use) => use.name === name);
}

/** Where a plan belongs among those that are in order. */
function placeIn(plans: readonly IngressPlan[], { ingress }: IngressPlan): number {
  let low = 0;
  let high = plans.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const other = plans[middle];
    if (other !== undefined && isOlder(other.ingress, ingress)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function placeOfShare(shares: readonly HostShare[], { plan }: HostShare): number {
  return placeIn(
    shares.map((share) => share.plan),
    plan,
  );
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

/** The same objects in the same order, in the very same map or in another one. */
function sameValues(a: ReadonlyMap<string, unknown>, b: ReadonlyMap<string, unknown>): boolean {
  if (a === b) return true;
  if (a.size !== b.size) return false;
  if (a instanceof SortedMap && b instanceof SortedMap) {
    for (const _ of a.changedSince(b)) return false;
    return true;
  }
  const others = b.values();
  for (const value of a.values()) if (value !== others.next().value) return false;
  return true;
}
