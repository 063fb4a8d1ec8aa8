/**
 * Runs features: the readings of an Ingress become the policies of a host, a route, a backend or the edge.
 *
 * In: an Ingress' plan and readings, and where the policy goes. Out: policies, or why everything is denied.
 * Not here: what a feature means (`control/features`), which Ingress is asked first (`hosts.ts`, `compile.ts`).
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { ConfigMap, Secret } from "../../cluster/model.ts";
import type { BackendName, ObjectName } from "../../edge-config/config.ts";
import type {
  BackendPolicies,
  EdgePolicies,
  HostPolicies,
  RoutePolicies,
} from "../../edge-config/policies.ts";
import { ANNOTATION_PREFIX, annotationKeys } from "../annotations/group.ts";
import type { Readers } from "../annotations/reader.ts";
import type { Reference } from "../annotations/readers.ts";
import type {
  AddedHost,
  BackendContext,
  CanaryContext,
  Denied,
  EdgeContext,
  Feature,
  Found,
  HostContext,
  IngressContext,
  RouteContext,
} from "../features/feature.ts";
import { featureList } from "../features/index.ts";
import { resolveDestination } from "./destination.ts";
import type { Lookup } from "./lookup.ts";
import { type CompileOptions, DEFAULT_CONFIG_MAP } from "./options.ts";
import { type BackendPlace, type BackendUse, backendName, type IngressPlan } from "./plan.ts";
import type { ReadingSource, Readings } from "./readings.ts";

const byScope = (scope: Feature["scope"]): readonly Feature[] =>
  featureList.filter((feature) => feature.scope === scope);
const edgeFeatures = byScope("edge");
const hostFeatures = byScope("host");
const routeFeatures = byScope("route");
const canaryFeatures = byScope("canary");
const backendFeatures = byScope("backend");

/** What features need while one host (or backend) is compiled, and what they leave behind. */
export interface Workshop {
  readonly options: CompileOptions;
  readonly readings: ReadingSource;
  readonly lookup: Lookup;
  /** `allow-cross-namespace-resources` of the controller's ConfigMap. */
  readonly crossNamespace: boolean;
  readonly diagnostics: Diagnostic[];
  /** Backends that policies name, by name. */
  readonly uses: Map<BackendName, BackendUse>;
}

export interface HostPlace {
  readonly host: string;
  readonly tls: boolean;
}

export interface RoutePlace extends HostPlace {
  readonly path: string;
  readonly pathType: "Exact" | "Prefix";
  readonly origin: RouteContext["origin"];
  readonly regex: boolean;
  readonly backend: BackendUse | undefined;
  readonly canary?: { readonly plan: IngressPlan; readonly use: BackendUse };
}

export interface RouteOutcome {
  readonly policies?: RoutePolicies;
  readonly denied?: string;
}

export function routePolicies(
  plan: IngressPlan | undefined,
  place: RoutePlace,
  shop: Workshop,
): RouteOutcome {
  const found: Record<string, object> = {};
  let denied: string | undefined;
  const readings = shop.readings.of(plan);
  const run = (feature: Feature, from: Readings, makeContext: () => RouteContext): void => {
    if (!feature.always && !from.touched.has(feature)) return;
    const outcome = runFeature(feature, from, makeContext);
    if (outcome === undefined) return;
    if (isDenied(outcome)) denied ??= outcome.reason;
    else found[feature.name] = outcome;
  };
  const context = lazy((): RouteContext => ({ ...hostContext(plan, place, shop), ...routeFields(place) }));
  for (const feature of routeFeatures) run(feature, readings, context);
  const { canary } = place;
  if (canary !== undefined) {
    const canaryReadings = shop.readings.of(canary.plan);
    const canaryContext = lazy(
      (): CanaryContext => ({
        ...hostContext(canary.plan, place, shop),
        ...routeFields(place),
        canaryBackend: canary.use.name,
      }),
    );
    for (const feature of canaryFeatures) run(feature, canaryReadings, canaryContext);
    if (canaryFeatures.length > 0) shop.uses.set(canary.use.name, canary.use);
  }
  // A denied route reaches nobody, so its other policies are of no use to anyone.
  if (denied !== undefined) return { denied };
  return Object.keys(found).length === 0 ? {} : { policies: sorted(found) as RoutePolicies };
}

export interface HostOutcome {
  readonly policies?: HostPolicies;
  readonly denied?: string;
  readonly added: readonly AddedHost[];
}

/** The oldest Ingress that asks for a feature decides; the others are told. */
export function hostPolicies(plans: readonly IngressPlan[], place: HostPlace, shop: Workshop): HostOutcome {
  const found: Record<string, object> = {};
  const added: AddedHost[] = [];
  let denied: string | undefined;
  for (const feature of hostFeatures) {
    const asking = plans.filter((plan) => shop.readings.of(plan).touched.has(feature));
    const [fallback] = plans;
    if (asking.length === 0 && feature.always && fallback !== undefined) asking.push(fallback);
    let decided: { readonly plan: IngressPlan; readonly text: string } | undefined;
    for (const plan of asking) {
      const context = hostContext(plan, place, shop);
      const readings = shop.readings.of(plan);
      const outcome = runFeature(feature, readings, () => context);
      const { annotations, settings, off } = readings.of(feature);
      const hosts = off === undefined ? (feature.addedHosts?.(annotations, context, settings) ?? []) : [];
      if (outcome === undefined && hosts.length === 0) continue;
      const text = JSON.stringify([outcome, hosts]);
      if (decided !== undefined) {
        if (decided.text !== text) {
          context.remark(
            "warning",
            firstAnnotation(feature, plan),
            `is decided for the whole host "${place.host}" by the older Ingress ${decided.plan.name}; what this one asks for is not done.`,
          );
        }
        continue;
      }
      decided = { plan, text };
      added.push(...hosts);
      if (outcome === undefined) continue;
      if (isDenied(outcome)) denied ??= outcome.reason;
      else found[feature.name] = outcome;
    }
  }
  return {
    ...(denied !== undefined
      ? { denied }
      : Object.keys(found).length > 0
        ? { policies: sorted(found) as HostPolicies }
        : {}),
    added,
  };
}

/** `plan`: the oldest Ingress that names the backend; absent where only a policy names it. */
export function backendPolicies(
  plan: IngressPlan | undefined,
  backend: BackendPlace,
  shop: Workshop,
): BackendPolicies | undefined {
  const found: Record<string, object> = {};
  const readings = shop.readings.of(plan);
  for (const feature of backendFeatures) {
    if (!feature.always && !readings.touched.has(feature)) continue;
    const outcome = runFeature(
      feature,
      readings,
      (): BackendContext => ({ ...ingressContext(plan, shop), backend }),
    );
    if (outcome !== undefined && !isDenied(outcome)) found[feature.name] = outcome;
  }
  return Object.keys(found).length === 0 ? undefined : (sorted(found) as BackendPolicies);
}

/** From the ConfigMap alone. `object` names it in remarks. */
export function edgePolicies(
  readings: ReadingSource,
  object: ObjectName,
  diagnostics: Diagnostic[],
): EdgePolicies | undefined {
  const found: Record<string, object> = {};
  for (const feature of edgeFeatures) {
    const remark: EdgeContext["remark"] = (severity, name, message) => {
      diagnostics.push({ severity, kind: "ConfigMap", object, field: `data.${name}`, message });
    };
    const outcome = runFeature(feature, readings.of(undefined), () => ({ remark }));
    if (outcome !== undefined && !isDenied(outcome)) found[feature.name] = outcome;
  }
  return Object.keys(found).length === 0 ? undefined : (sorted(found) as EdgePolicies);
}

/** Does one of the Ingress' features turn the host of this path to regular expressions? */
export function asksForRegex(plan: IngressPlan, path: string, readings: ReadingSource): boolean {
  const own = readings.of(plan);
  return routeFeatures.some((feature) => {
    if (feature.turnsHostToRegex === undefined || !own.touched.has(feature)) return false;
    const reading = own.of(feature);
    return reading.off === undefined && feature.turnsHostToRegex(reading.annotations, { path });
  });
}

function runFeature(
  feature: Feature,
  readings: Readings,
  makeContext: () => EdgeContext,
): object | Denied | undefined {
  const reading = readings.of(feature);
  if (reading.off?.kind === "deny") return { kind: "Denied", reason: reading.off.reason };
  if (reading.off?.kind === "omit") return undefined;
  const context = makeContext();
  const outcome = feature.compile(reading.annotations, context, reading.settings) as
    | object
    | Denied
    | undefined;
  if (outcome !== undefined && isDenied(outcome)) {
    const effect =
      feature.scope === "host"
        ? "every request for the host gets 403"
        : "every route that it guards answers 503";
    context.remark("error", outcome.annotation ?? firstName(feature), `${outcome.reason}; ${effect}.`);
  }
  return outcome;
}

function isDenied(outcome: object): outcome is Denied {
  return "kind" in outcome && outcome.kind === "Denied" && "reason" in outcome;
}

/** Features run in the order of the alphabet within a scope; a route has policies of two scopes. */
function sorted(found: Readonly<Record<string, object>>): object {
  return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function lazy<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

function routeFields(
  place: RoutePlace,
): Pick<RouteContext, "path" | "pathType" | "origin" | "regex" | "routeBackend"> {
  const { path, pathType, origin, regex, backend } = place;
  return { path, pathType, origin, regex, ...(backend === undefined ? {} : { routeBackend: backend.name }) };
}

function firstName(feature: Feature): string {
  return Object.keys(feature.annotations)[0] ?? feature.name;
}

function firstAnnotation(feature: Feature, plan: IngressPlan): string {
  const { annotations } = plan.ingress.meta;
  const written = Object.entries(feature.annotations).find(([name, reader]) =>
    annotationKeys(name, reader).some((key) => annotations[key] !== undefined),
  );
  return written?.[0] ?? firstName(feature);
}

/** A name has one owner (`registry.test.ts`), so it is enough to find the keys under which it may be written. */
const readersByName: ReadonlyMap<string, Readers[string]> = new Map(
  featureList.flatMap(({ annotations }) => Object.entries(annotations)),
);

const settingNames: ReadonlySet<string> = new Set(
  featureList.flatMap(({ settings }) => Object.keys(settings)),
);

/** Puts a feature's word under the annotation's key as its owner wrote it, or under the operator's own key. */
function remarker(plan: IngressPlan | undefined, shop: Workshop): EdgeContext["remark"] {
  return (severity, name, message) => {
    if (settingNames.has(name)) {
      const object = shop.options.configMap ?? DEFAULT_CONFIG_MAP;
      shop.diagnostics.push({ severity, kind: "ConfigMap", object, field: `data.${name}`, message });
      return;
    }
    if (plan === undefined) return; // The defaults of the ConfigMap are remarked upon where Ingresses meet them.
    const reader = readersByName.get(name);
    const keys = reader === undefined ? [] : annotationKeys(name, reader);
    const key =
      keys.find((one) => plan.ingress.meta.annotations[one] !== undefined) ?? ANNOTATION_PREFIX + name;
    shop.diagnostics.push({ severity, kind: "Ingress", object: plan.name, field: key, message });
  };
}

function ingressContext(plan: IngressPlan | undefined, shop: Workshop): IngressContext {
  const namespace = plan?.ingress.meta.namespace ?? "";
  const { lookup } = shop;
  const find = <K extends "secrets" | "configMaps">(
    kind: K,
    word: string,
    reference: Reference,
    mayCross = shop.crossNamespace,
  ): Found<K extends "secrets" ? Secret : ConfigMap> => {
    const name: ObjectName = `${reference.namespace ?? namespace}/${reference.name}`;
    if (reference.namespace !== undefined && reference.namespace !== namespace && !mayCross) {
      return {
        kind: "Missing",
        reason: `${word} ${name} is in another namespace, which "allow-cross-namespace-resources" does not allow`,
      };
    }
    const object = lookup.get(kind, name) as (K extends "secrets" ? Secret : ConfigMap) | undefined;
    return object === undefined
      ? { kind: "Missing", reason: `${word} ${name} does not exist` }
      : { kind: "Found", object, name };
  };
  return {
    ...(plan === undefined ? {} : { ingress: plan.name }),
    namespace,
    remark: remarker(plan, shop),
    secret: (reference) => find("secrets", "Secret", reference),
    configMap: (reference, by) =>
      find("configMaps", "ConfigMap", reference, by === "controller" || undefined),
    service(service) {
      const name: ObjectName = `${namespace}/${service}`;
      const object = lookup.get("services", name);
      return object === undefined
        ? { kind: "Missing", reason: `Service ${name} does not exist` }
        : { kind: "Found", object, name };
    },
  };
}

function hostContext(plan: IngressPlan | undefined, { host, tls }: HostPlace, shop: Workshop): HostContext {
  const base = ingressContext(plan, shop);
  const backendOf: HostContext["backendOf"] = (namespace, service, port) => {
    const name = backendName(namespace, service, port);
    if (!shop.uses.has(name))
      shop.uses.set(name, { name, namespace, service, port, field: "metadata.annotations" });
    return name;
  };
  return {
    ...base,
    host,
    tls,
    backendOf,
    destination: (url) =>
      resolveDestination(
        url,
        { namespace: base.namespace, backendOf },
        (name) => shop.lookup.get("services", name) !== undefined,
        shop.options,
      ),
  };
}
