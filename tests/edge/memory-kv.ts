/** A KV namespace in memory that counts its reads and can lose, change or refuse values. */

import type { EdgeConfig } from "../../edge-config/config.ts";
import type { ConfigKeys } from "../../edge-config/config-keys.ts";
import { encodePointer, POINTER_KEY, type Pointer } from "../../edge-config/pointer.ts";
import { cutShards } from "../../edge-config/shards.ts";

export class MemoryKv {
  readonly values = new Map<string, string>();
  /** Each call, as the keys that it asked for. */
  readonly reads: (readonly string[])[] = [];
  /** While set, reads reject with it. */
  failure: Error | undefined;
  /** While set, reads wait for it. */
  gate: Promise<void> | undefined;

  /** The namespace as a binding has it. */
  get namespace(): Pick<KVNamespace, "get"> {
    const get = async (keys: string | readonly string[]): Promise<unknown> => {
      this.reads.push(typeof keys === "string" ? [keys] : keys);
      await this.gate;
      if (this.failure !== undefined) throw this.failure;
      if (typeof keys === "string") return this.values.get(keys) ?? null;
      return new Map(keys.map((key) => [key, this.values.get(key) ?? null]));
    };
    return { get } as unknown as Pick<KVNamespace, "get">;
  }

  /** Shards first, then the pointer, as control does. Returns the keys of the shards. */
  async publish(
    config: EdgeConfig,
    generation: number,
    options: {
      readonly keys?: ConfigKeys;
      readonly maxShardBytes?: number;
      readonly pointer?: Partial<Pointer>;
    } = {},
  ): Promise<readonly string[]> {
    const { directory, shards } = await cutShards(config, options);
    for (const [name, text] of shards) this.values.set(name, text);
    const pointer = {
      ...directory,
      version: 1,
      generation,
      epoch: 0,
      createdAt: new Date(Date.UTC(2026, 0, 1, 0, 0, generation)).toISOString(),
      ...options.pointer,
    } as const;
    this.values.set(POINTER_KEY, await encodePointer(pointer, options.keys));
    return [...shards.keys()];
  }
}
