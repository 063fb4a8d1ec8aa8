/**
 * Who may use which host name.
 *
 * In: an operator's rules, or none. Out: two questions answered: may this cluster, may this namespace of it,
 * use this host? Without rules, everybody may, and the oldest Ingress decides where two claim one host.
 * Not here: which of several claims wins (`merge.ts`).
 */

import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { ClusterModel, Ingress, ObjectName } from "../cluster/model.ts";
import { changedKeys, SortedMap } from "../cluster/sorted-map.ts";

const rule = z.strictObject({
  /** `shop.example.com`, `*.example.com` (every name below, at any depth) or `*`. */
  host: z.string().min(1),
  cluster: z.string().min(1).optional(),
  namespace: z.string().min(1).optional(),
});

const document = z.strictObject({
  /** The first rule whose `host` fits decides; who is not named in it may not use the host. */
  hosts: z.array(rule).default([]),
  /**
   * Whether namespaces of one cluster may share a host, as ingress-nginx lets them. With `namespace`, a host
   * belongs to the namespace of the oldest Ingress that names it.
   */
  sharing: z.enum(["cluster", "namespace"]).default("cluster"),
});

export interface OwnershipRules {
  /** Nothing to check at all. */
  readonly allowsEverything: boolean;
  readonly allowsCluster: (host: string, cluster: string) => boolean;
  /**
   * The model without the hosts that its namespaces may not use; the very same model if nothing is taken. Of a cluster's
   * models only what has changed since the one before is looked at.
   */
  readonly restrict: (
    cluster: string,
    model: ClusterModel,
  ) => { readonly model: ClusterModel; readonly diagnostics: readonly Diagnostic[] };
}

/** Throws a `RangeError` with a sentence when the document is not what it should be. */
export function readOwnershipRules(value: unknown): OwnershipRules {
  const parsed = document.safeParse(value ?? {});
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new RangeError(
      `The host-ownership policy is wrong at ${issue?.path.join(".") || "its top"}: ${issue?.message}.`,
    );
  }
  const { hosts, sharing } = parsed.data;
  const find = (host: string): z.infer<typeof rule> | undefined =>
    hosts.find((one) => fits(one.host.toLowerCase(), host));
  const before = new Map<string, Restricted>();

  return {
    allowsEverything: hosts.length === 0 && sharing === "cluster",
    allowsCluster: (host, cluster) => {
      const found = find(host);
      return found?.cluster === undefined || found.cluster === cluster;
    },
    restrict: (cluster, model) => {
      if (hosts.length === 0 && sharing === "cluster") return { model, diagnostics: NONE };
      const kept = before.get(cluster);
      const { ingresses } = model;
      const names = new Set(kept === undefined ? ingresses.keys() : changedKeys(kept.ingresses, ingresses));
      const claims =
        sharing === "namespace" ? claimsAfter(kept?.claims, names, kept?.ingresses, ingresses) : undefined;
      // Whoever has a host that another namespace gained or lost is judged anew.
      for (const [host, now] of claims?.changed ?? []) {
        const old = kept?.claims?.get(host) ?? [];
        if (ownerOf(old) !== ownerOf(now)) for (const claim of [...old, ...now]) names.add(claim.ingress);
      }
      const whyNot = (namespace: string, host: string): string | undefined => {
        const found = find(host);
        if (found?.cluster !== undefined && found.cluster !== cluster)
          return `the rule for ${found.host} gives it to the cluster ${found.cluster}`;
        if (found?.namespace !== undefined && found.namespace !== namespace)
          return `the rule for ${found.host} gives it to the namespace ${found.namespace}`;
        const owner = ownerOf(claims?.all.get(host) ?? []);
        if (found?.namespace === undefined && owner !== undefined && owner !== namespace)
          return `the namespace ${owner} has had it for longer`;
        return undefined;
      };
      const restricted = new Map<ObjectName, Ingress | undefined>();
      const told = new Map<ObjectName, readonly Diagnostic[] | undefined>();
      for (const name of names) {
        const ingress = ingresses.get(name);
        const own: Diagnostic[] = [];
        restricted.set(
          name,
          ingress && withoutHosts(ingress, (host) => whyNot(ingress.meta.namespace, host), own),
        );
        if (!isDeepStrictEqual(own, kept?.told.get(name) ?? []))
          told.set(name, own.length > 0 ? own : undefined);
      }
      const nowTold = (kept?.told ?? SortedMap.from<ObjectName, readonly Diagnostic[]>([])).with(told);
      const now: Restricted = {
        ingresses,
        restricted: (kept?.restricted ?? SortedMap.from<ObjectName, Ingress>([])).with(restricted),
        told: nowTold,
        claims: claims?.all,
        diagnostics: kept?.told === nowTold ? kept.diagnostics : [...nowTold.values()].flat(),
      };
      before.set(cluster, now);
      const { diagnostics } = now;
      return diagnostics.length === 0
        ? { model, diagnostics }
        : { model: { ...model, ingresses: now.restricted }, diagnostics };
    },
  };
}

const NONE: readonly Diagnostic[] = [];

/** What the last state of a cluster became, for the next one. */
interface Restricted {
  readonly ingresses: ClusterModel["ingresses"];
  readonly restricted: SortedMap<ObjectName, Ingress>;
  readonly told: SortedMap<ObjectName, readonly Diagnostic[]>;
  /** Only where namespaces may not share a host. */
  readonly claims: HostClaims | undefined;
  readonly diagnostics: readonly Diagnostic[];
}

/** By host, every Ingress that names it. */
type HostClaims = SortedMap<string, readonly HostClaim[]>;

interface HostClaim {
  readonly ingress: ObjectName;
  readonly namespace: string;
  /** Orders claims. */
  readonly age: string;
}

/** The claims after these Ingresses have changed, and those of the hosts that they name. */
function claimsAfter(
  claims: HostClaims | undefined,
  names: ReadonlySet<ObjectName>,
  before: ClusterModel["ingresses"] | undefined,
  now: ClusterModel["ingresses"],
): { readonly all: HostClaims; readonly changed: ReadonlyMap<string, readonly HostClaim[]> } {
  const known = claims ?? SortedMap.from<string, readonly HostClaim[]>([]);
  const changed = new Map<string, readonly HostClaim[]>();
  const change = (host: string, make: (list: readonly HostClaim[]) => readonly HostClaim[]): void => {
    changed.set(host, make(changed.get(host) ?? known.get(host) ?? []));
  };
  for (const name of names) {
    const [old, ingress] = [before?.get(name), now.get(name)];
    for (const host of old === undefined ? [] : hostsOf(old))
      change(host, (list) => list.filter((claim) => claim.ingress !== name));
    if (ingress === undefined) continue;
    const { namespace, creationTimestamp } = ingress.meta;
    const claim = { ingress: name, namespace, age: `${creationTimestamp ?? "~"} ${namespace}` };
    for (const host of new Set(hostsOf(ingress))) change(host, (list) => [...list, claim]);
  }
  const changes = new Map(
    Array.from(changed, ([host, list]) => [host, list.length > 0 ? list : undefined] as const),
  );
  return { all: known.with(changes), changed };
}

/** The namespace that has had the host for longest. */
function ownerOf(claims: readonly HostClaim[]): string | undefined {
  let oldest: HostClaim | undefined;
  for (const claim of claims) if (oldest === undefined || claim.age < oldest.age) oldest = claim;
  return oldest?.namespace;
}

function fits(pattern: string, host: string): boolean {
  if (pattern === "*" || pattern === host) return true;
  return pattern.startsWith("*.") && host.endsWith(pattern.slice(1));
}

/** Host as an EdgeConfig spells it: rules without one are `*`. */
function hostsOf(ingress: Ingress): readonly string[] {
  const hosts = ingress.rules.map(({ host }) => (host === "" ? "*" : host));
  return ingress.defaultBackend === undefined ? hosts : [...hosts, "*"];
}

/** Taken-off hosts of an Ingress are remembered, so that an unchanged Ingress stays the same object. */
const reduced = new WeakMap<Ingress, { readonly taken: string; readonly ingress: Ingress }>();

function withoutHosts(
  ingress: Ingress,
  whyNot: (host: string) => string | undefined,
  diagnostics: Diagnostic[],
): Ingress {
  const reasons = new Map<string, string>();
  for (const host of hostsOf(ingress)) {
    const reason = whyNot(host);
    if (reason !== undefined) reasons.set(host, reason);
  }
  if (reasons.size === 0) return ingress;
  for (const [host, reason] of reasons) {
    diagnostics.push({
      severity: "error",
      kind: "Ingress",
      object: `${ingress.meta.namespace}/${ingress.meta.name}`,
      field: host === "*" ? "spec.rules" : "spec.rules.host",
      message: `The host ${JSON.stringify(host)} is not served for the namespace ${ingress.meta.namespace}: ${reason}.`,
    });
  }
  const taken = JSON.stringify([...reasons.keys()]);
  const known = reduced.get(ingress);
  if (known?.taken === taken) return known.ingress;
  const { defaultBackend, rules, ...rest } = ingress;
  const result: Ingress = {
    ...rest,
    rules: rules.filter(({ host }) => !reasons.has(host === "" ? "*" : host)),
    ...(defaultBackend === undefined || reasons.has("*") ? {} : { defaultBackend }),
  };
  reduced.set(ingress, { taken, ingress: result });
  return result;
}
