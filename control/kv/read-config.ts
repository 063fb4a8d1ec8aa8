/**
 * Reads a whole configuration back from KV: everything that a pointer names.
 *
 * In: a pointer. Out: the configuration that it stands for, or why there is none. Bytes are trusted as a Worker trusts
 * them: each shard is checked against its name, and secrets open with the key alone. Cut again, it gives the same shards.
 */

import type { Backend, EdgeConfig, HostConfig } from "../../edge-config/config.ts";
import { EDGE_CONFIG_VERSION } from "../../edge-config/config.ts";
import type { ConfigKeys } from "../../edge-config/config-keys.ts";
import { decodeHostRecord } from "../../edge-config/host-record.ts";
import { type Pointer, shardsOf } from "../../edge-config/pointer.ts";
import { readShard } from "../../edge-config/shard.ts";
import type { KvClient } from "./client.ts";

export type ConfigReading =
  | { readonly kind: "config"; readonly config: EdgeConfig }
  /** The reason is a clause. */
  | { readonly kind: "damaged"; readonly reason: string };

/** Shards that are fetched at a time. */
const CONCURRENCY = 8;

/** Rejects with a `KvError`. */
export async function readConfig(
  client: KvClient,
  pointer: Pointer,
  keys: ConfigKeys | undefined,
): Promise<ConfigReading> {
  const hosts = new Map<string, HostConfig>();
  const backends = new Map<string, Backend>();
  const names = shardsOf(pointer);
  for (let from = 0; from < names.length; from += CONCURRENCY) {
    const some = names.slice(from, from + CONCURRENCY);
    const texts = await Promise.all(some.map((name) => client.get(name)));
    for (const [at, name] of some.entries()) {
      const text = texts[at];
      if (text === undefined) return { kind: "damaged", reason: `the shard ${name} is gone` };
      const reading = await readShard(name, text);
      if (reading.kind === "refused") return { kind: "damaged", reason: reading.reason };
      for (const host of reading.shard.hosts()) {
        const record = await decodeHostRecord(host, reading.shard.record(host) ?? "", keys);
        hosts.set(host, record.config);
        // A backend stands in the record of each host that names it, the same in all.
        for (const [backendName, backend] of record.backends)
          if (!backends.has(backendName)) backends.set(backendName, backend);
      }
    }
  }
  return {
    kind: "config",
    config: {
      version: EDGE_CONFIG_VERSION,
      ...(pointer.policies === undefined ? {} : { policies: pointer.policies }),
      hosts: Object.fromEntries(hosts),
      backends: Object.fromEntries(backends),
    },
  };
}
