/**
 * Several clusters behind one edge: their configurations become one.
 *
 * In: a configuration for each cluster. Out: one EdgeConfig, and a diagnostic for everything that one of them
 * did not get. A host belongs to one cluster: the one that a rule of ownership names, or else the one whose
 * Ingress for it is the oldest. The others get nothing of it, and are told so.
 *
 * Objects that need no change are handed on as they are, which is what the writer of shards goes by, and where each
 * cluster tells what it has changed, nothing else is looked at. A single
 * cluster's configuration is handed on whole. In a merged one every host tells its owner, so that a configuration that
 * was published can be taken apart again (`recovery.ts`).
 */

import { isDeepStrictEqual } from "node:util";
import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { ClusterModel } from "../cluster/model.ts";
import { SortedMap } from "../cluster/sorted-map.ts";
import type {
  Backend,
  BackendName,
  EdgeConfig,
  HostConfig,
  HostOwner,
  Route,
} from "../edge-config/config.ts";
import type { ConfigDelta } from "../edge-config/shards.ts";
import { lazyConfig } from "./compile/lazy-config.ts";
import type { OwnershipRules } from "./ownership.ts";

export interface ClusterConfig {
  readonly cluster: string;
  /** Absent: the configuration was read back from the edge. Its hosts tell their ages then, if anybody knows them. */
  readonly model?: ClusterModel;
  readonly config: EdgeConfig;
  /** Those of `config`, which need not make its records then. */
  readonly hosts?: ReadonlyMap<string, HostConfig>;
  readonly backends?: ReadonlyMap<BackendName, Backend>;
  /** Absent where what has changed is not known to be little. */
  readonly delta?: ConfigDelta | undefined;
}

export interface MergeResult {
  readonly config: EdgeConfig;
  /** Those of `config`. */
  readonly hosts: ReadonlyMap<string, HostConfig>;
  readonly backends: ReadonlyMap<BackendName, Backend>;
  /** Since the result before; absent where what has changed is not known to be little. */
  readonly delta?: ConfigDelta;
  /** The very same list as before when nothing else is to be said. */
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
  let before: Merged | undefined;

  const remembered = <T extends object>(cluster: string, value: T, make: () => T): T => {
    const known = copies.get(cluster) ?? new WeakMap<object, object>();
    copies.set(cluster, known);
    const copy = known.get(value) ?? make();
    known.set(value, copy);
    return copy as T;
  };
  const mergeHost = (name: string, claims: readonly Claim[]): MergedHost => {
    const owner = oldestClaim(claims.filter(({ cluster }) => rules.allowsCluster(name, cluster)));
    return {
      config: owner && remembered(owner.cluster, owner.host, () => ownedHost(owner)),
      losses: claims.flatMap((claim) => (claim === owner ? [] : losses(name, claim, owner))),
    };
  };
  const mergeBackend = (cluster: string, backend: Backend): Backend =>
    remembered(cluster, backend, () => renameBackends(backend, (own) => qualified(cluster, own)));

  const mergeAll = (clusters: readonly ClusterConfig[]): Merged => {
    const hosts: [string, HostConfig][] = [];
    const lost: [string, readonly ClusterDiagnostic[]][] = [];
    for (const [name, claims] of claimsOf(clusters)) {
      const host = mergeHost(name, claims);
      if (host.config !== undefined) hosts.push([name, host.config]);
      if (host.losses.length > 0) lost.push([name, host.losses]);
    }
    const backends = clusters.flatMap((one) =>
      Array.from(backendsIn(one), ([name, backend]): [BackendName, Backend] => [
        qualified(one.cluster, name),
        mergeBackend(one.cluster, backend),
      ]),
    );
    return mergedOf(clusters, SortedMap.from(hosts), SortedMap.from(backends), SortedMap.from(lost));
  };

  /** Hosts and backends that some cluster has changed, and no others. */
  const mergeChanges = (last: Merged, clusters: readonly ClusterConfig[]): Merged => {
    const names = new Set<string>();
    const backends = new Map<BackendName, Backend | undefined>();
    for (const [at, { cluster, config, delta }] of clusters.entries()) {
      if (config === last.clusters[at]?.config) continue;
      for (const name of delta?.hosts.keys() ?? []) names.add(name);
      for (const [name, backend] of delta?.backends ?? [])
        backends.set(qualified(cluster, name), backend && mergeBackend(cluster, backend));
    }
    const hosts = new Map<string, HostConfig | undefined>();
    const lost = new Map<string, readonly ClusterDiagnostic[] | undefined>();
    for (const name of names) {
      const host = mergeHost(name, claimsOn(name, clusters));
      if (host.config !== last.hosts.get(name)) hosts.set(name, host.config);
      if (!isDeepStrictEqual(host.losses, last.losses.get(name) ?? []))
        lost.set(name, host.losses.length > 0 ? host.losses : undefined);
    }
    const [nowHosts, nowBackends] = [last.hosts.with(hosts), last.backends.with(backends)];
    const delta: ConfigDelta = {
      since: last.result.config,
      hosts,
      backends,
      backend: (name) => nowBackends.get(name),
    };
    const merged = mergedOf(clusters, nowHosts, nowBackends, last.losses.with(lost));
    const diagnostics = lost.size === 0 ? last.result.diagnostics : merged.result.diagnostics;
    return { ...merged, result: { ...merged.result, delta, diagnostics } };
  };

  return {
    merge: (clusters) => {
      const [only] = clusters;
      if (clusters.length === 1 && only !== undefined && rules.allowsEverything) {
        before = undefined;
        const { config, delta } = only;
        const hosts = only.hosts ?? new Map(hostsIn(only));
        const backends = only.backends ?? new Map(backendsIn(only));
        return { config, hosts, backends, diagnostics: NONE, ...(delta === undefined ? {} : { delta }) };
      }
      before =
        before !== undefined && isNear(before.clusters, clusters)
          ? mergeChanges(before, clusters)
          : mergeAll(clusters);
      return before.result;
    },
  };
}

const NONE: readonly ClusterDiagnostic[] = [];

interface MergedHost {
  /** Absent: nobody may have it. */
  readonly config: HostConfig | undefined;
  readonly losses: readonly ClusterDiagnostic[];
}

/** What one merge made, for the next one. */
interface Merged {
  readonly clusters: readonly ClusterConfig[];
  readonly hosts: SortedMap<string, HostConfig>;
  readonly backends: SortedMap<BackendName, Backend>;
  /** By host: what is told to those who did not get it. */
  readonly losses: SortedMap<string, readonly ClusterDiagnostic[]>;
  readonly result: MergeResult;
}

function mergedOf(
  clusters: readonly ClusterConfig[],
  hosts: SortedMap<string, HostConfig>,
  backends: SortedMap<BackendName, Backend>,
  lost: SortedMap<string, readonly ClusterDiagnostic[]>,
): Merged {
  // What holds for the whole edge can have one author; that is the first cluster by name.
  const policies = clusters[0]?.config.policies;
  const config = lazyConfig(policies === undefined ? {} : { policies }, hosts, backends);
  const diagnostics = [...lost.values()].flat();
  return { clusters, hosts, backends, losses: lost, result: { config, hosts, backends, diagnostics } };
}

/** The same clusters, each with the same configuration or one that tells how it differs from that. */
function isNear(before: readonly ClusterConfig[], now: readonly ClusterConfig[]): boolean {
  return (
    before.length === now.length &&
    now.every(({ cluster, config, delta }, at) => {
      const last = before[at];
      return cluster === last?.cluster && (config === last.config || delta?.since === last.config);
    })
  );
}

interface Claim {
  readonly cluster: string;
  readonly host: HostConfig;
  readonly model: ClusterModel | undefined;
}

function claimsOf(clusters: readonly ClusterConfig[]): ReadonlyMap<string, readonly Claim[]> {
  const claims = new Map<string, Claim[]>();
  for (const one of clusters) {
    for (const [name, host] of hostsIn(one)) {
      const claim = { cluster: one.cluster, host, model: one.model };
      const others = claims.get(name);
      if (others === undefined) claims.set(name, [claim]);
      else others.push(claim);
    }
  }
  return claims;
}

function claimsOn(name: string, clusters: readonly ClusterConfig[]): readonly Claim[] {
  return clusters.flatMap(({ cluster, model, config, hosts }) => {
    const inRecord = hosts === undefined && Object.hasOwn(config.hosts, name);
    const host = inRecord ? config.hosts[name] : hosts?.get(name);
    return host === undefined ? [] : [{ cluster, host, model }];
  });
}

function hostsIn({ hosts, config }: ClusterConfig): Iterable<readonly [string, HostConfig]> {
  return hosts ?? Object.entries(config.hosts);
}

function backendsIn({ backends, config }: ClusterConfig): Iterable<readonly [BackendName, Backend]> {
  return backends ?? Object.entries(config.backends);
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
