/** Puts a configuration into KV as control does: the shards, then the pointer. */

import type { EdgeConfig } from "../../edge-config/config.ts";
import { encodePointer, POINTER_KEY } from "../../edge-config/pointer.ts";
import { cutShards } from "../../edge-config/shards.ts";
import type { KvService } from "../../tests/edge/kv-service.ts";

export async function publish(kv: KvService, config: EdgeConfig): Promise<void> {
  const { directory, shards } = await cutShards(config);
  for (const [name, text] of shards) kv.values.set(name, text);
  const pointer = {
    ...directory,
    version: 1,
    generation: 1,
    epoch: 0,
    createdAt: "2026-01-01T00:00:00.000Z",
  } as const;
  kv.values.set(POINTER_KEY, await encodePointer(pointer, undefined));
}
