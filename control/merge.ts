/**
 * Several clusters behind one edge: their configurations become one.
 *
 * In: a configuration for each cluster. Out: one EdgeConfig, and a diagnostic for everything that one of them
 * did not get. A host belongs to one cluster: the one that a rule of ownership names, or else the one whose
 * Ingress for it is the oldest. The others get nothing of it, and are told so.
 *
 * Objects that need no change are handed on as they are, which is what the writer of shards goes by. A single
 * cluster's configuration is handed on whole. In a merged one every host tells its owner, so that a configuration that
 * was published can be taken apart again (`recovery.ts`).
 */

import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { ClusterModel } from "../cluster/model.ts";
import type {
  Backend,
  BackendName,
  EdgeConfig,
  HostConfig,
  HostOwner,
  Route,
} from "../edge-config/config.ts";
import type { OwnershipRules } from "./ownership.ts";

export interface ClusterConfig {
  readonly cluster: string;
  /** Absent: the configuration was read back from the edge. Its hosts tell their ages then, if anybody knows them. */
  readonly model?: ClusterModel;
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

  const remembered = <T extends object>(cluster: string, value: T, make: () => T): T => {
    const known = copies.get(cluster) ?? new WeakMap<object, object>();
    copies.set(cluster, known);
    const copy = known.get(value) ?? make();
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
        if (owner !== undefined)
          hosts.set(
            host,
            remembered(owner.cluster, owner.host, () => ownedHost(owner)),
          );
        for (const claim of claims) {
          if (claim !== owner) diagnostics.push(...losses(host, claim, owner));
        }
      }
      for (const { cluster, config } of clusters) {
        for (const name of Object.keys(config.backends)) {
          const backend = config.backends[name];
          if (backend === undefined) continue;
          const make = (): Backend => renameBackends(backend, (own) => qualified(cluster, own));
          backends.set(qualified(cluster, name), remembered(cluster, backend, make));
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
  readonly model: ClusterModel | undefined;
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
    // Of the same age, one that was heard counts before what was read back.
    if (other < age || (other === age && oldest.model === undefined && claim.model !== undefined)) {
      oldest = claim;
      age = other;
    }
  }
  return oldest;
}

/** Orders claims: RFC 3339 in UTC orders as text. */
function ageOf(claim: Claim): string {
  // Of a host at the edge whose age nobody wrote down: whoever has it keeps it until its owner is heard again.
  const unknown = claim.model === undefined && claim.host.owner === undefined ? "" : "~"; // After every digit.
  return sinceOf(claim) ?? unknown;
}

/** The creation of the oldest Ingress with a route of the host. */
function sinceOf({ host, model }: Claim): string | undefined {
  if (model === undefined) return host.owner?.since;
  let since: string | undefined;
  for (const { ingress } of host.routes) {
    const created = ingress === undefined ? undefined : model.ingresses.get(ingress)?.meta.creationTimestamp;
    if (created !== undefined && (since === undefined || created < since)) since = created;
  }
  return since;
}

function ownedHost(claim: Claim): HostConfig {
  const { owner: _, ...host } = claim.host;
  const since = sinceOf(claim);
  const owner: HostOwner = { cluster: claim.cluster, ...(since === undefined ? {} : { since }) };
  return { ...renameBackends(host, (name) => qualified(claim.cluster, name)), owner };
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

/** The reverse of `qualified`; `undefined` for a backend of another cluster. */
export function unqualified(cluster: string, name: BackendName): BackendName | undefined {
  return name.startsWith(`${cluster}:`) ? name.slice(cluster.length + 1) : undefined;
}

/** A copy in which every property `backend` that holds a name holds another one (the rule of `host-record.ts`). */
export function renameBackends<T>(value: T, rename: (name: BackendName) => BackendName): T {
  const copy = (one: unknown): unknown => {
    if (typeof one !== "object" || one === null) return one;
    if (Array.isArray(one)) return one.map(copy);
    return Object.fromEntries(
      Object.entries(one).map(([name, item]) => [
        name,
        name === "backend" && typeof item === "string" ? rename(item) : copy(item),
      ]),
    );
  };
  return copy(value) as T;
}
