/** The whole Worker in a plain workerd, with configurations written to KV by the code that control uses. */

import type { EdgeConfig } from "../../edge-config/config.ts";
import type { ConfigKeys } from "../../edge-config/config-keys.ts";
import { encodePointer, POINTER_KEY } from "../../edge-config/pointer.ts";
import { cutShards } from "../../edge-config/shards.ts";
import { KvService } from "./kv-service.ts";
import { bundleModule, WorkerdProcess } from "./workerd-process.ts";

let bundle: Promise<string> | undefined;

export class EdgeUnderTest {
  readonly kv: KvService;
  readonly process: WorkerdProcess;
  #generation = 0;

  private constructor(kv: KvService, process: WorkerdProcess) {
    this.kv = kv;
    this.process = process;
  }

  static async start(
    config: EdgeConfig | undefined,
    vars: Readonly<Record<string, string>> = {},
  ): Promise<EdgeUnderTest> {
    bundle ??= bundleModule("worker/index.ts");
    const kv = await KvService.start();
    const process = await WorkerdProcess.start({
      module: await bundle,
      vars: { ORIGIN_TRANSPORT: "direct", STATUS: "on", SERVER_HEADER: "fairlead", ...vars },
      kv: { SHARDS: kv.address, POINTER: kv.address },
    });
    const edge = new EdgeUnderTest(kv, process);
    if (config !== undefined) await edge.publish(config);
    return edge;
  }

  get origin(): string {
    return `http://127.0.0.1:${this.process.port}`;
  }

  /** Shards, then the pointer. */
  async publish(
    config: EdgeConfig,
    options: { readonly keys?: ConfigKeys; readonly epoch?: number } = {},
  ): Promise<void> {
    const { directory, shards } = await cutShards(config, { keys: options.keys });
    for (const [name, text] of shards) this.kv.values.set(name, text);
    this.#generation++;
    const pointer = await encodePointer(
      {
        ...directory,
        version: 1,
        generation: this.#generation,
        epoch: options.epoch ?? 0,
        createdAt: new Date(Date.UTC(2026, 0, 1) + this.#generation * 1000).toISOString(),
      },
      options.keys,
    );
    this.kv.values.set(POINTER_KEY, pointer);
  }

  async stop(): Promise<void> {
    await this.process.stop();
    this.kv.stop();
  }
}
