/**
 * What the edge was last made of, taken apart again by clusters: so a control service that was restarted, or leads anew,
 * goes on with the clusters that push their state and have not done so again.
 *
 * In: the configuration that stands in KV, and its clusters. Out: what each of them had, as its own compiler would have
 * made it. Nothing more is stored for it, so it is never older than the edge itself.
 *
 * Not here: clusters that are watched. Their first lists are newer, and are waited for (`service.ts`).
 */

import type { Backend, BackendName, EdgeConfig, HostConfig } from "../edge-config/config.ts";
import { renameBackends, unqualified } from "./merge.ts";

/** By cluster, those of `wanted` only. `clusters` are all that the configuration was made of. */
export function takeApart(
  config: EdgeConfig,
  clusters: readonly string[],
  wanted: readonly string[],
): ReadonlyMap<string, EdgeConfig> {
  const isMerged = Object.values(config.hosts).some(({ owner }) => owner !== undefined);
  const [only] = clusters;
  // One cluster's configuration was handed on whole.
  if (!isMerged) return new Map(only !== undefined && wanted.includes(only) ? [[only, config]] : []);
  return new Map(wanted.map((cluster) => [cluster, partOf(config, cluster, cluster === only)]));
}

/** `isFirst`: what holds for the whole edge has one author, the first cluster by name. */
function partOf(config: EdgeConfig, cluster: string, isFirst: boolean): EdgeConfig {
  const hosts: [string, HostConfig][] = [];
  const backends: [BackendName, Backend][] = [];
  const own = (name: BackendName): BackendName => unqualified(cluster, name) ?? name;
  for (const host of Object.keys(config.hosts)) {
    const value = config.hosts[host];
    if (value?.owner?.cluster === cluster) hosts.push([host, renameBackends(value, own)]);
  }
  for (const name of Object.keys(config.backends)) {
    const backend = config.backends[name];
    const plain = unqualified(cluster, name);
    if (plain !== undefined && backend !== undefined) backends.push([plain, renameBackends(backend, own)]);
  }
  return {
    version: config.version,
    ...(isFirst && config.policies !== undefined ? { policies: config.policies } : {}),
    hosts: Object.fromEntries(hosts),
    backends: Object.fromEntries(backends),
  };
}
