/** What was published is read back as it was: cut again, or merged again, it gives the same bytes. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { buildClusterModel } from "../../cluster/build.ts";
import type { KvClient } from "../../control/kv/client.ts";
import { readConfig } from "../../control/kv/read-config.ts";
import { createMerger } from "../../control/merge.ts";
import { readOwnershipRules } from "../../control/ownership.ts";
import { takeApart } from "../../control/recovery.ts";
import type { EdgeConfig } from "../../edge-config/config.ts";
import { deriveConfigKeys } from "../../edge-config/config-keys.ts";
import type { Pointer } from "../../edge-config/pointer.ts";
import { cutShards, type ShardSet } from "../../edge-config/shards.ts";
import { edgeConfig } from "./arbitrary-config.ts";

const keys = await deriveConfigKeys("read back what was once written ok");
const OPTIONS = { keys, maxShardBytes: 2_000 };
const noModel = buildClusterModel([]).model;

/** A KV that holds these shards. */
function holding({ shards }: Pick<ShardSet, "shards">): KvClient {
  const refuse = (): never => {
    throw new Error("reading back writes nothing");
  };
  return {
    get: async (key) => shards.get(key as never),
    put: refuse,
    putAll: refuse,
    deleteAll: refuse,
    list: refuse,
  };
}

function pointerTo({ directory }: ShardSet): Pointer {
  return { version: 1, generation: 1, epoch: 0, createdAt: "2026-11-23T10:00:00.000Z", ...directory };
}

async function readBack(set: ShardSet): Promise<EdgeConfig> {
  const reading = await readConfig(holding(set), pointerTo(set), keys);
  if (reading.kind === "damaged") throw new Error(reading.reason);
  return reading.config;
}

test("any configuration, cut and read back, cuts into the same shards", async () => {
  await fc.assert(
    fc.asyncProperty(edgeConfig, async (config) => {
      const set = await cutShards(config, OPTIONS);
      const again = await cutShards(await readBack(set), OPTIONS);
      expect(again.directory).toEqual(set.directory);
      expect(again.shards).toEqual(set.shards);
    }),
  );
});

test("any clusters, merged, read back and taken apart, merge into the same shards", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(edgeConfig, { minLength: 1, maxLength: 3 }), async (configs) => {
      const rules = readOwnershipRules(undefined);
      const names = configs.map((_, at) => `cluster-${at}`);
      const told = configs.map((config, at) => ({ cluster: names[at] ?? "", model: noModel, config }));
      const set = await cutShards(createMerger(rules).merge(told).config, OPTIONS);
      const parts = takeApart(await readBack(set), names, names);
      const back = [...parts].map(([cluster, config]) => ({ cluster, config }));
      const again = await cutShards(createMerger(rules).merge(back).config, OPTIONS);
      expect(again.directory).toEqual(set.directory);
      expect([...again.shards]).toEqual([...set.shards]);
    }),
  );
});

test("a shard that is gone or torn is told, and nothing of the others is taken", async () => {
  const config = fc
    .sample(edgeConfig, { seed: 7, numRuns: 20 })
    .find(({ hosts }) => Object.keys(hosts).length > 5);
  if (config === undefined) throw new Error("the sample has no configuration of some size");
  const set = await cutShards(config, OPTIONS);
  const [name] = [...set.shards.keys()];
  if (name === undefined) throw new Error("there is no shard");
  const without = new Map(set.shards);
  without.delete(name);
  expect(await readConfig(holding({ shards: without }), pointerTo(set), keys)).toEqual({
    kind: "damaged",
    reason: `the shard ${name} is gone`,
  });
  const torn = new Map(set.shards).set(name, `${set.shards.get(name)} `);
  expect(await readConfig(holding({ shards: torn }), pointerTo(set), keys)).toMatchObject({
    kind: "damaged",
  });
});
