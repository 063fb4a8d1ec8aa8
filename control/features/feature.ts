/**
 * What a feature of the edge is on the control side: a few annotations, how each is read, and how they become
 * one policy. `README.md` beside this file shows how to add one.
 *
 * In: values that the readers have made, and a context that answers questions about the cluster.
 * Out: a policy, nothing (the feature is off), or a denial.
 * Text of annotations is read here and in the sibling files, nowhere else.
 */

import type { ConfigMap, Secret, Service } from "../../cluster/model.ts";
import type { BackendName, ObjectName } from "../../edge-config/config.ts";
import type { Destination } from "../../edge-config/destination.ts";
import type {
  BackendFeatureName,
  EdgeFeatureName,
  FeatureName,
  HostFeatureName,
  HostPolicies,
  PolicyOf,
  RouteFeatureName,
} from "../../edge-config/policies.ts";
import type { Group, OnInvalid } from "../annotations/group.ts";
import type { Readers, Values } from "../annotations/reader.ts";
import type { Reference } from "../annotations/readers.ts";
import type { UrlText } from "../annotations/url.ts";

/**
 * Where a feature's annotations are read and where its policy goes.
 *
 * - `edge`: the controller's ConfigMap alone → the whole edge.
 * - `host`: the oldest Ingress of the host that asks for it → the host.
 * - `route`: the Ingress that made the route → the route.
 * - `canary`: the canary Ingress of the route (reference §1, Canary) → the main route.
 * - `backend`: the oldest Ingress that names the backend → the backend.
 */
export type Scope = "edge" | "host" | "route" | "canary" | "backend";

export type ScopeOf<N extends FeatureName> = N extends RouteFeatureName
  ? "route" | "canary"
  : N extends HostFeatureName
    ? "host"
    : N extends BackendFeatureName
      ? "backend"
      : N extends EdgeFeatureName
        ? "edge"
        : never;

/** The policy must not fail open and cannot be made: its route (or host) refuses everything. */
export interface Denied {
  readonly kind: "Denied";
  /** A sentence for the operator, without a full stop. Clients never see it. */
  readonly reason: string;
  /** Which annotation is at fault; absent: the first of the feature. */
  readonly annotation?: string;
}

export function deny(reason: string, annotation?: string): Denied {
  return { kind: "Denied", reason, ...(annotation === undefined ? {} : { annotation }) };
}

export type Found<T> =
  | { readonly kind: "Found"; readonly object: T; readonly name: ObjectName }
  /** `reason` says what is missing or refused, as a clause: `Secret shop/users does not exist`. */
  | { readonly kind: "Missing"; readonly reason: string };

/** What every feature may ask. */
export interface EdgeContext {
  /** Tells the owner of the object something about one annotation (or setting) of this feature. */
  readonly remark: (severity: "error" | "warning" | "info", name: string, message: string) => void;
}

/** What a feature of an Ingress may ask. Answers about other objects are remembered: the policy is made anew when they change. */
export interface IngressContext extends EdgeContext {
  /** Absent for the cluster's own default backend, which no Ingress made. */
  readonly ingress?: ObjectName;
  /** Where names without a namespace are looked up; empty without an Ingress. */
  readonly namespace: string;
  /** Refuses another namespace unless the setting `allow-cross-namespace-resources` is on. */
  readonly secret: (reference: Reference) => Found<Secret>;
  readonly configMap: (
    reference: Reference,
    /** `controller`: the operator wrote the reference, who may name any namespace. */
    by?: "controller",
  ) => Found<ConfigMap>;
  /** A Service of the Ingress' own namespace. */
  readonly service: (name: string) => Found<Service>;
}

export interface BackendContext extends IngressContext {
  readonly backend: { readonly namespace: string; readonly service: string; readonly port: string };
}

export interface HostContext extends IngressContext {
  /** A key of `EdgeConfig.hosts`. */
  readonly host: string;
  /** Some Ingress of the host has a TLS section, so there is a certificate (the controller's own, if need be). */
  readonly tls: boolean;
  /** Names a backend that the policy sends requests to. It exists from then on, be its Service missing. */
  readonly backendOf: (namespace: string, service: string, port: string) => BackendName;
  /** How a URL is reached: a Service of the cluster, an address through the origin transport, or a public URL. */
  readonly destination: (
    url: UrlText,
  ) =>
    | { readonly kind: "Found"; readonly destination: Destination }
    | { readonly kind: "Missing"; readonly reason: string };
}

export interface RouteContext extends HostContext {
  /** As the rule wrote it. */
  readonly path: string;
  readonly pathType: "Exact" | "Prefix";
  /**
   * `rule`: a path of a rule. `host`: the `/` that no rule wrote, with the annotations of the host's oldest
   * Ingress. `catch-all`: the default backend of every other host, to which ingress-nginx applies neither
   * redirects nor rewrites.
   */
  readonly origin: "rule" | "host" | "catch-all";
  /** Paths of this host are regular expressions. */
  readonly regex: boolean;
  /** Absent: the route answers 404. */
  readonly routeBackend?: BackendName;
}

export interface CanaryContext extends RouteContext {
  /** The backend of the canary Ingress for this path. */
  readonly canaryBackend: BackendName;
}

export type ContextOf<N extends FeatureName> = N extends RouteFeatureName
  ? CanaryContext
  : N extends HostFeatureName
    ? HostContext
    : N extends BackendFeatureName
      ? BackendContext
      : EdgeContext;

/** A host that a feature adds, unless an Ingress has it: the counterpart of a www redirect. */
export interface AddedHost {
  readonly host: string;
  readonly policies: HostPolicies;
}

interface FeatureSpec<N extends FeatureName, A extends Readers, S extends Readers> {
  readonly scope: ScopeOf<N>;
  readonly onInvalid: OnInvalid;
  readonly doc: string;
  readonly annotations: A;
  readonly settings?: S;
  /**
   * Called when some annotation of the feature was written, and always when one of them has a `setting` or the
   * feature has `settings`. Pure; the same values in the same context give the same policy.
   */
  readonly compile: (
    annotations: Values<A>,
    context: ContextOf<N>,
    settings: Values<S>,
  ) => PolicyOf<N> | Denied | undefined;
  /** True where these values turn the paths of the whole host into regular expressions. */
  readonly turnsHostToRegex?: (annotations: Values<A>, route: { readonly path: string }) => boolean;
  readonly addedHosts?: (
    annotations: Values<A>,
    context: HostContext,
    settings: Values<S>,
  ) => readonly AddedHost[];
}

/** A feature, with the types of its values put aside: what `compile/` drives. */
export interface Feature<N extends FeatureName = FeatureName> extends Group {
  readonly name: N;
  readonly scope: Scope;
  /** `compile` has to be asked even where no annotation was written. */
  readonly always: boolean;
  // Methods, so that a feature of given readers is a Feature: only `read` of the same group makes the values.
  compile(
    annotations: Values<Readers>,
    context: EdgeContext,
    settings: Values<Readers>,
  ): PolicyOf<N> | Denied | undefined;
  turnsHostToRegex?(annotations: Values<Readers>, route: { readonly path: string }): boolean;
  addedHosts?(
    annotations: Values<Readers>,
    context: HostContext,
    settings: Values<Readers>,
  ): readonly AddedHost[];
}

export function defineFeature<
  const N extends FeatureName,
  const A extends Readers,
  const S extends Readers = Readonly<Record<never, never>>,
>(name: N, spec: FeatureSpec<N, A, S>): Feature<N> {
  const readers: readonly Readers[string][] = Object.values(spec.annotations);
  const settings: Readers = spec.settings ?? {};
  const feature = {
    ...(spec.scope === "host" ? { whenUnreadable: "every request for the host gets 403" } : {}),
    ...spec,
    name,
    settings,
    always: Object.keys(settings).length > 0 || readers.some(({ options }) => options.setting !== undefined),
  };
  return feature as unknown as Feature<N>;
}

/**
 * Annotations that shape the hosts, routes and backends themselves, so `compile/` reads them and no policy
 * comes of them.
 */
export function defineStructure<
  const A extends Readers,
  const S extends Readers = Readonly<Record<never, never>>,
>(
  name: string,
  spec: {
    readonly onInvalid: OnInvalid;
    readonly whenUnreadable?: string;
    readonly doc: string;
    readonly annotations: A;
    readonly settings?: S;
  },
): Group<A, S> {
  return { name, ...spec, settings: (spec.settings ?? {}) as S };
}
