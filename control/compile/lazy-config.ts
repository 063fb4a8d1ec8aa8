/**
 * An EdgeConfig that makes its records when somebody asks for them. A publication asks for what has changed, and the
 * records of 10 000 hosts and backends cost more than all the rest of it.
 */

import type { SortedMap } from "../../cluster/sorted-map.ts";
import {
  type Backend,
  type BackendName,
  EDGE_CONFIG_VERSION,
  type EdgeConfig,
  type HostConfig,
} from "../../edge-config/config.ts";

export function lazyConfig(
  edge: Pick<EdgeConfig, "policies">,
  hosts: SortedMap<string, HostConfig>,
  backends: SortedMap<BackendName, Backend>,
): EdgeConfig {
  return {
    version: EDGE_CONFIG_VERSION,
    ...edge,
    get hosts() {
      return recordOf(hosts);
    },
    get backends() {
      return recordOf(backends);
    },
  };
}

/** Of maps that are never changed: one map has one record. */
const records = new WeakMap<SortedMap<string, unknown>, Readonly<Record<string, unknown>>>();

/** In order of the keys. */
function recordOf<T>(items: SortedMap<string, T>): Readonly<Record<string, T>> {
  let record = records.get(items);
  if (record === undefined) {
    record = Object.fromEntries(items);
    records.set(items, record);
  }
  return record as Readonly<Record<string, T>>;
}
