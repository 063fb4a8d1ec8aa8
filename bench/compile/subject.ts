/**
 * One round, in a process of its own so that its memory is its own: 10 000 Ingresses and 50 000 endpoints compiled and
 * cut into shards, then one endpoint changed, several times. Prints one line of JSON.
 */

import { createCompiler } from "../../control/compile/compile.ts";
import { cutShards } from "../../edge-config/shards.ts";
import { largeCluster } from "./large-cluster.ts";

const CHANGES = 20;

const { model, withEndpoint } = largeCluster(10_000, 5);
const compiler = createCompiler();

const start = performance.now();
const first = compiler.compile(model);
const compileMs = performance.now() - start;
let shards = await cutShards(first.config);
const publishMs = performance.now() - start;

const changesMs: number[] = [];
let written = 0;
for (let round = 0; round < CHANGES; round++) {
  const changed = withEndpoint(`10.255.0.${round}`);
  const before = performance.now();
  const { config, delta } = compiler.compile(changed);
  const next = await cutShards(config, { previous: shards, delta });
  changesMs.push(performance.now() - before);
  written = [...next.shards.keys()].filter((name) => !shards.shards.has(name)).length;
  shards = next;
}
changesMs.sort((a, b) => a - b);

console.log(
  JSON.stringify({
    compileMs,
    publishMs,
    changeMs: changesMs[CHANGES / 2],
    shardsWrittenByAChange: written,
    rssMiB: process.resourceUsage().maxRSS / 1024,
  }),
);
