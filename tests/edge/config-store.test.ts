/** The store over shards that control's own encoder wrote; only the namespace and the clock are ours. */

import { beforeEach, describe, expect, test, vi } from "vitest";
import type { EdgeConfig } from "../../edge-config/config.ts";
import { deriveConfigKeys } from "../../edge-config/config-keys.ts";
import { POINTER_KEY } from "../../edge-config/pointer.ts";
import { BackendPools } from "../../worker/balance/backend-pools.ts";
import { ConfigStore, type HostAnswer } from "../../worker/config-store.ts";
import { configOf } from "./edge-config-of.ts";
import { MemoryKv } from "./memory-kv.ts";

const shop = (endpoint: string): EdgeConfig =>
  configOf({
    "shop.example.com": { "/": [endpoint] },
    "other.example.com": { "/": ["10.0.0.9:80"] },
    "*.wild.example.com": { "/": ["10.0.0.2:80"] },
    "*": { "/": ["10.0.0.3:80"] },
  });

let kv: MemoryKv;
let now: number;
let background: Promise<unknown>[];
const context = { waitUntil: (promise: Promise<unknown>) => void background.push(promise) };

beforeEach(() => {
  kv = new MemoryKv();
  now = 1_000_000;
  background = [];
  vi.spyOn(console, "error").mockImplementation(() => {});
});

function storeOf(options: { readonly key?: string; readonly maxStaleSeconds?: number } = {}) {
  const environment = {
    SHARDS: kv.namespace,
    POINTER: kv.namespace,
    ...(options.key === undefined ? {} : { FAIRLEAD_CONFIG_KEY: options.key }),
  };
  const settings = { refreshSeconds: 10, maxStaleSeconds: options.maxStaleSeconds ?? 300 };
  return new ConfigStore(environment, settings, new BackendPools(), () => now);
}

/** The endpoints that a name is served by, or what the store says instead. */
async function endpointsOf(
  store: ConfigStore,
  name: string,
): Promise<readonly string[] | "unavailable" | undefined> {
  const host: HostAnswer = await store.host(name, context);
  if (host === undefined || host === "unavailable") return host;
  return host.find("/")?.entry.backend?.endpoints.map(({ address }) => address);
}

async function settle(): Promise<void> {
  await Promise.all(background.splice(0));
}

describe("reads of KV", () => {
  test("two when cold, none when warm", async () => {
    await kv.publish(shop("10.0.0.1:80"), 1);
    const store = storeOf();
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.1:80"]);
    expect(kv.reads).toHaveLength(2);
    expect(kv.reads[0]).toEqual([POINTER_KEY]);
    for (let count = 0; count < 100; count++) await endpointsOf(store, "shop.example.com");
    expect(kv.reads).toHaveLength(2);
    expect(store.host("shop.example.com", context)).not.toBeInstanceOf(Promise);
  });

  test("two as well for a host of a wildcard, of the catch-all, or of nobody", async () => {
    await kv.publish(shop("10.0.0.1:80"), 1, { maxShardBytes: 1 });
    for (const [name, endpoints] of [
      ["a.wild.example.com", ["10.0.0.2:80"]],
      ["a.b.wild.example.com", ["10.0.0.3:80"]],
      ["wild.example.com", ["10.0.0.3:80"]],
      ["nowhere", ["10.0.0.3:80"]],
    ] as const) {
      kv.reads.length = 0;
      const store = storeOf();
      expect(await endpointsOf(store, name)).toEqual(endpoints);
      expect(kv.reads.length).toBeLessThanOrEqual(2);
      expect(await endpointsOf(store, name)).toEqual(endpoints);
      expect(kv.reads.length).toBeLessThanOrEqual(2);
    }
  });

  test("a host that is not there is known not to be", async () => {
    await kv.publish(configOf({ "shop.example.com": { "/": ["10.0.0.1:80"] } }), 1);
    const store = storeOf();
    expect(await endpointsOf(store, "constructor")).toBeUndefined();
    const reads = kv.reads.length;
    expect(await endpointsOf(store, "constructor")).toBeUndefined();
    expect(kv.reads).toHaveLength(reads);
  });

  test("another host of a shard that is here costs none", async () => {
    await kv.publish(shop("10.0.0.1:80"), 1);
    const store = storeOf();
    await endpointsOf(store, "shop.example.com");
    kv.reads.length = 0;
    expect(await endpointsOf(store, "other.example.com")).toEqual(["10.0.0.9:80"]);
    expect(kv.reads).toHaveLength(0);
  });
});

describe("a newer configuration", () => {
  test("is fetched behind the answer, and serves from then on", async () => {
    await kv.publish(shop("10.0.0.1:80"), 1);
    const store = storeOf();
    await endpointsOf(store, "shop.example.com");
    await kv.publish(shop("10.0.0.7:80"), 2);
    now += 9_999;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.1:80"]);
    expect(background).toHaveLength(0);
    now += 1;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.1:80"]);
    expect(background).toHaveLength(1);
    await settle();
    kv.reads.length = 0;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.7:80"]);
    expect(kv.reads).toHaveLength(0);
    expect(store.status.pointer?.generation).toBe(2);
  });

  test("one refresh at a time, and another one when the first died with its request", async () => {
    await kv.publish(shop("10.0.0.1:80"), 1);
    const store = storeOf();
    await endpointsOf(store, "shop.example.com");
    kv.gate = new Promise(() => {});
    now += 10_000;
    for (let count = 0; count < 5; count++) await endpointsOf(store, "shop.example.com");
    expect(background).toHaveLength(1);
    now += 30_000;
    await endpointsOf(store, "shop.example.com");
    expect(background).toHaveLength(2);
  });

  test("is waited for when nobody has looked for too long", async () => {
    await kv.publish(shop("10.0.0.1:80"), 1);
    const store = storeOf();
    await endpointsOf(store, "shop.example.com");
    await kv.publish(shop("10.0.0.7:80"), 2);
    now += 300_000;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.7:80"]);
  });

  test("keeps the tables and the turns of what did not change", async () => {
    await kv.publish(shop("10.0.0.1:80"), 1);
    const store = storeOf();
    const before = await store.host("other.example.com", context);
    await kv.publish(shop("10.0.0.7:80"), 2);
    now += 300_000;
    expect(await store.host("other.example.com", context)).toBe(before);
  });

  test("an older or equal pointer is passed over", async () => {
    await kv.publish(shop("10.0.0.2:80"), 2);
    const store = storeOf();
    await endpointsOf(store, "shop.example.com");
    await kv.publish(shop("10.0.0.1:80"), 1);
    now += 300_000;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.2:80"]);
  });

  test("is looked for at once when a shard of the old one is gone", async () => {
    const config = (b: string) =>
      configOf({ "a.example.com": { "/": ["10.0.0.1:80"] }, "b.example.com": { "/": [b] } });
    await kv.publish(config("10.0.0.2:80"), 1, { maxShardBytes: 1 });
    const store = storeOf();
    await endpointsOf(store, "a.example.com");
    const old = new Set(kv.values.keys());
    const shards = new Set(await kv.publish(config("10.0.0.7:80"), 2, { maxShardBytes: 1 }));
    for (const key of old) if (key !== POINTER_KEY && !shards.has(key)) kv.values.delete(key);
    expect(await endpointsOf(store, "b.example.com")).toEqual(["10.0.0.7:80"]);
  });
});

describe("the last good configuration is kept", () => {
  const spoil: Readonly<Record<string, (shards: readonly string[]) => void | Promise<void>>> = {
    "when a shard is missing": (shards) => shards.forEach((shard) => void kv.values.delete(shard)),
    "when a shard is torn": (shards) =>
      shards.forEach((shard) => void kv.values.set(shard, (kv.values.get(shard) ?? "").slice(0, -20))),
    "when a shard is another one's": (shards) =>
      shards.forEach((shard) => void kv.values.set(shard, '{"version":1,"hosts":{}}\n')),
    "when the pointer is gone": () => void kv.values.delete(POINTER_KEY),
    "when the pointer is cut off": () =>
      void kv.values.set(POINTER_KEY, (kv.values.get(POINTER_KEY) ?? "").slice(0, -3)),
    "when its version is unknown": () =>
      void kv.values.set(
        POINTER_KEY,
        (kv.values.get(POINTER_KEY) ?? "").replace('"version":1', '"version":2'),
      ),
    "when KV fails": () => {
      kv.failure = new Error("KV GET failed: 500");
    },
  };
  test.each(Object.keys(spoil))("%s, and the reason is told", async (name) => {
    await kv.publish(shop("10.0.0.1:80"), 1);
    const store = storeOf();
    await endpointsOf(store, "shop.example.com");
    const known = new Set(kv.values.keys());
    const shards = await kv.publish(shop("10.0.0.7:80"), 2);
    const good = new Map(kv.values);
    await spoil[name]?.(shards.filter((shard) => !known.has(shard)));
    now += 300_000;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.1:80"]);
    expect(store.status.lastError?.message).toBeTruthy();
    expect(store.status.pointer?.generation).toBe(1);

    // And it heals by itself.
    kv.failure = undefined;
    for (const [key, value] of good) kv.values.set(key, value);
    now += 300_000;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.7:80"]);
    expect(store.status.lastError).toBeUndefined();
  });

  test("a forged pointer is refused where a key is set, and a signed one taken", async () => {
    const key = "a-long-enough-key-for-the-configuration";
    const keys = await deriveConfigKeys(key);
    await kv.publish(shop("10.0.0.1:80"), 1, { keys });
    const store = storeOf({ key });
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.1:80"]);
    await kv.publish(shop("10.6.6.6:80"), 2); // Unsigned.
    now += 300_000;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.1:80"]);
    await kv.publish(shop("10.6.6.6:80"), 3, {
      keys: await deriveConfigKeys("another-key-that-is-long-enough-too"),
    });
    now += 300_000;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.1:80"]);
    expect(store.status.lastError?.message).toContain("signature");
    await kv.publish(shop("10.0.0.7:80"), 4, { keys });
    now += 300_000;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.7:80"]);
  });
});

describe("before there is any configuration", () => {
  test("nothing can be served, KV is asked once a second at most, and it heals", async () => {
    const store = storeOf();
    expect(await endpointsOf(store, "shop.example.com")).toBe("unavailable");
    expect(await endpointsOf(store, "shop.example.com")).toBe("unavailable");
    expect(kv.reads).toHaveLength(1);
    await kv.publish(shop("10.0.0.1:80"), 1);
    now += 1_000;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.1:80"]);
  });

  test("a host whose shard is missing is unavailable, and costs the others nothing", async () => {
    await kv.publish(shop("10.0.0.1:80"), 1, { maxShardBytes: 1 });
    const store = storeOf();
    await endpointsOf(store, "other.example.com");
    const before = new Map(kv.values);
    for (const [key, text] of before) if (text.includes('"shop.example.com":[')) kv.values.delete(key);
    expect(await endpointsOf(store, "shop.example.com")).toBe("unavailable");
    expect(await endpointsOf(store, "other.example.com")).toEqual(["10.0.0.9:80"]);
    for (const [key, text] of before) kv.values.set(key, text);
    now += 1_000;
    expect(await endpointsOf(store, "shop.example.com")).toEqual(["10.0.0.1:80"]);
  });

  test("many cold requests at once do not wait for each other", async () => {
    await kv.publish(shop("10.0.0.1:80"), 1);
    const store = storeOf();
    const all = await Promise.all(Array.from({ length: 10 }, () => endpointsOf(store, "shop.example.com")));
    expect(all).toEqual(Array.from({ length: 10 }, () => ["10.0.0.1:80"]));
  });
});

test("random reloads never show a mixture: what is served is one generation, whole", async () => {
  const generation = (number: number): EdgeConfig =>
    configOf(
      Object.fromEntries(
        Array.from({ length: 30 }, (_, at) => [`h${at}.example.com`, { "/": [`10.0.${number}.1:80`] }]),
      ),
    );
  await kv.publish(generation(1), 1, { maxShardBytes: 2000 });
  const store = storeOf({ maxStaleSeconds: 0 });
  for (let at = 0; at < 30; at++) await endpointsOf(store, `h${at}.example.com`);
  for (let number = 2; number < 12; number++) {
    const known = new Set(kv.values.keys());
    const shards = await kv.publish(generation(number), number, { maxShardBytes: 2000 });
    const lost = shards.filter((shard) => !known.has(shard)).filter((_, at) => number % 2 === 0 && at === 0);
    const saved = lost.map((shard) => [shard, kv.values.get(shard) ?? ""] as const);
    for (const shard of lost) kv.values.delete(shard);
    now += 20_000;
    const served = new Set<string>();
    for (let at = 0; at < 30; at++) served.add(String(await endpointsOf(store, `h${at}.example.com`)));
    expect([...served]).toEqual([`10.0.${lost.length > 0 ? number - 1 : number}.1:80`]);
    for (const [shard, text] of saved) kv.values.set(shard, text);
  }
});
