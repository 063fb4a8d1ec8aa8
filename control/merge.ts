/**
 * Several clusters behind one edge: their configurations become one.
 *
 * In: a configuration for each cluster. Out: one EdgeConfig, and a diagnostic for everything that one of them
 * did not get. A host belongs to one cluster: the one that a rule of ownership names, or else the one whose
 * Ingress for it is the oldest. The others get nothing of it, and are told so.
 *
 * Objects that need no change are handed on as they are, which is what the writer of shards goes by. A single
 * cluster's configuration is handed on whole.
 */

import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { ClusterModel } from "../cluster/model.ts";
import type { Backend, BackendName, EdgeConfig, HostConfig, Route } from "../edge-config/config.ts";
import type { OwnershipRules } from "./ownership.ts";

export interface ClusterConfig {
  readonly cluster: string;
  readonly model: ClusterModel;
  readonly config: EdgeConfig;
}

export interface MergeResult {
  readonly config: EdgeConfig;
  readonly diagnostics: readonly ClusterDiagnostic[];
}

/** A diagnostic, and whose it is. */
export interface ClusterDiagnostic extends Diagnostic {
  readonly cluster: string;
}

export interface Merger {
  /** `clusters` in order of their names. */
  readonly merge: (clusters: readonly ClusterConfig[]) => MergeResult;
}

export function createMerger(rules: OwnershipRules): Merger {
  /** By cluster: what an object became in merged configurations, for as long as somebody holds it. */
  const copies = new Map<string, WeakMap<object, object>>();

  const rename = <T extends object>(cluster: string, value: T): T => {
    const known = copies.get(cluster) ?? new WeakMap<object, object>();
    copies.set(cluster, known);
    const copy = known.get(value) ?? (renameBackends(value, cluster) as object);
    known.set(value, copy);
    return copy as T;
  };

  return {
    merge: (clusters) => {
      const diagnostics: ClusterDiagnostic[] = [];
      const [only] = clusters;
      if (clusters.length === 1 && only !== undefined && rules.allowsEverything)
        return { config: only.config, diagnostics };

      const hosts = new Map<string, HostConfig>();
      const backends = new Map<BackendName, Backend>();
      for (const [host, claims] of claimsOf(clusters)) {
        const allowed = claims.filter(({ cluster }) => rules.allowsCluster(host, cluster));
        const owner = oldestClaim(allowed);
        if (owner !== undefined) hosts.set(host, rename(owner.cluster, owner.host));
        for (const claim of claims) {
          if (claim !== owner) diagnostics.push(...losses(host, claim, owner));
        }
      }
      for (const { cluster, config } of clusters) {
        for (const name of Object.keys(config.backends)) {
          const backend = config.backends[name];
          if (backend !== undefined) backends.set(qualified(cluster, name), rename(cluster, backend));
        }
      }
      // What holds for the whole edge can have one author; that is the first cluster by name.
      const policies = only?.config.policies;
      return {
        config: {
          version: 1,
          ...(policies === undefined ? {} : { policies }),
          hosts: Object.fromEntries(hosts),
          backends: Object.fromEntries(backends),
        },
        diagnostics,
      };
    },
  };
}

interface Claim {
  readonly cluster: string;
  readonly host: HostConfig;
  readonly model: ClusterModel;
}

function claimsOf(clusters: readonly ClusterConfig[]): ReadonlyMap<string, readonly Claim[]> {
  const claims = new Map<string, Claim[]>();
  for (const { cluster, model, config } of clusters) {
    for (const name of Object.keys(config.hosts)) {
      const host = config.hosts[name];
      if (host === undefined) continue;
      const claim = { cluster, host, model };
      const others = claims.get(name);
      if (others === undefined) claims.set(name, [claim]);
      else others.push(claim);
    }
  }
  return claims;
}

/** Ages are looked up for contested hosts only; an Ingress without a date is younger than any dated one. */
function oldestClaim(claims: readonly Claim[]): Claim | undefined {
  const [first, ...others] = claims;
  if (first === undefined || others.length === 0) return first;
  let oldest = first;
  let age = ageOf(first);
  for (const claim of others) {
    const other = ageOf(claim);
    if (other < age) {
      oldest = claim;
      age = other;
    }
  }
  return oldest;
}

/** The creation of the oldest Ingress with a route of the host. RFC 3339 in UTC orders as text. */
function ageOf({ host, model }: Claim): string {
  let age = "~"; // After every digit.
  for (const { ingress } of host.routes) {
    const created = ingress === undefined ? undefined : model.ingresses.get(ingress)?.meta.creationTimestamp;
    if (created !== undefined && created < age) age = created;
  }
  return age;
}

function losses(
  host: string,
  { cluster, host: lost }: Claim,
  owner: Claim | undefined,
): readonly ClusterDiagnostic[] {
  const ingresses = new Set(
    lost.routes.flatMap(({ ingress }: Route) => (ingress === undefined ? [] : [ingress])),
  );
  const why =
    owner === undefined
      ? `no rule of host ownership gives it to the cluster ${cluster}`
      : `the host belongs to the cluster ${owner.cluster}`;
  return [...ingresses].map((ingress) => ({
    cluster,
    severity: "error",
    kind: "Ingress",
    object: ingress,
    field: "spec.rules",
    message: `The host ${JSON.stringify(host)} is not served from the cluster ${cluster}: ${why}.`,
  }));
}

/** Two clusters may hold the same Service under the same names. */
function qualified(cluster: string, name: BackendName): BackendName {
  return `${cluster}:${name}`;
}

/** A copy in which every property `backend` that holds a name holds the qualified one (the rule of `host-record.ts`). */
function renameBackends(value: unknown, cluster: string): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => renameBackends(item, cluster));
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      name,
      name === "backend" && typeof item === "string"
        ? qualified(cluster, item)
        : renameBackends(item, cluster),
    ]),
  );
}
