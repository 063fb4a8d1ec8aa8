import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { unstable_getMiniflareWorkerOptions } from "wrangler";
import { readWranglerConfig } from "./wrangler-config.ts";

const path = join(import.meta.dirname, "..", "..", "wrangler.toml");

test("our wrangler.toml is read as wrangler reads it", () => {
  const ours = readWranglerConfig(readFileSync(path, "utf8"));
  const { workerOptions: theirs } = unstable_getMiniflareWorkerOptions(path);
  expect(ours.compatibilityDate).toBe(theirs.compatibilityDate);
  expect(ours.compatibilityFlags).toEqual(theirs.compatibilityFlags);
  expect(ours.variables).toEqual(theirs.bindings);
  expect(
    Object.fromEntries(Object.entries(ours.kvNamespaces).map(([binding, id]) => [binding, { id }])),
  ).toEqual(theirs.kvNamespaces);
  expect(ours.durableObjects).toEqual(theirs.durableObjects);
});

test("a binding that is not read here is an error", () => {
  const text = `${readFileSync(path, "utf8")}\n[[r2_buckets]]\nbinding = "BUCKET"\nbucket_name = "b"\n`;
  expect(() => readWranglerConfig(text)).toThrow(/r2_buckets/);
});
