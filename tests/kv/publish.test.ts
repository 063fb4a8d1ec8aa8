import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createKvClient, type KvClientOptions } from "../../control/kv/client.ts";
import {
  createPublisher,
  type Publisher,
  type PublisherEvent,
  type PublisherOptions,
  type PublisherPace,
} from "../../control/kv/publisher.ts";
import type { EdgeConfig } from "../../edge-config/config.ts";
import { deriveConfigKeys } from "../../edge-config/config-keys.ts";
import { decodePointer, POINTER_KEY, type Pointer, shardsOf } from "../../edge-config/pointer.ts";
import { type KvServer, startKvServer } from "./kv-server.ts";

const PACE: PublisherPace = {
  debounceMs: 0,
  pointerDistanceMs: 0,
  graceMs: 1_000_000,
  lagMs: 0,
  upkeepMs: 3_600_000, // Upkeep runs when a test says so.
  retryMinMs: 1,
  retryMaxMs: 5,
};

let server: KvServer;
let nowMs: number;
let events: PublisherEvent[];
let publishers: Publisher[];

beforeEach(async () => {
  server = await startKvServer();
  nowMs = Date.parse("2026-11-23T10:00:00Z");
  events = [];
  publishers = [];
});
afterEach(async () => {
  await Promise.all(publishers.map((publisher) => publisher.close()));
  await server.close();
});

function start(
  options: Partial<PublisherOptions> & { readonly client?: never } = {},
  clientOptions: Partial<KvClientOptions> = {},
): Publisher {
  const publisher = createPublisher({
    client: createKvClient({ ...server, timeoutMs: 5_000, ...clientOptions }),
    pace: PACE,
    now: () => nowMs,
    onEvent: (event) => events.push(event),
    ...options,
  });
  publishers.push(publisher);
  return publisher;
}

/** Ten hosts; `endpoint` stands in the first one's backend. */
function configWith(endpoint: string, hosts = 10): EdgeConfig {
  const names = Array.from({ length: hosts }, (_, n) => n);
  return {
    version: 1,
    hosts: Object.fromEntries(
      names.map((n) => [
        `host${n}.example`,
        {
          matching: "kubernetes",
          routes: [{ path: "/", pathType: "Prefix", ingress: "a/b", backend: `a-web${n}-80` }],
        },
      ]),
    ),
    backends: Object.fromEntries(
      names.map((n) => [
        `a-web${n}-80`,
        { namespace: "a", service: `web${n}`, port: "80", endpoints: [n === 0 ? endpoint : "10.1.0.1:80"] },
      ]),
    ),
  };
}

async function publish(publisher: Publisher, config: EdgeConfig): Promise<void> {
  publisher.submit(config);
  await publisher.settled();
}

async function pointer(): Promise<Pointer> {
  const reading = await decodePointer(server.store.get(POINTER_KEY) ?? "", undefined);
  if (reading.kind === "refused") throw new Error(reading.reason);
  return reading.loaded.pointer;
}

/** Keys written since the last call, in order. */
function written(): string[] {
  const keys = server.seen
    .filter(({ operation }) => operation.endsWith("put"))
    .flatMap((request) => request.keys);
  server.seen.length = 0;
  return keys;
}

const kinds = (): string[] => events.map(({ kind }) => kind);

describe("a publication", () => {
  test("writes shards first and the pointer last", async () => {
    await publish(start(), configWith("10.0.0.2:80"));
    const keys = written();
    expect(keys.at(-1)).toBe(POINTER_KEY);
    expect(keys.slice(0, -1)).toEqual(shardsOf(await pointer()));
    expect(await pointer()).toMatchObject({ generation: 1, epoch: 0, createdAt: "2026-11-23T10:00:00.000Z" });
  });

  test("of one changed endpoint is one shard and the pointer", async () => {
    const publisher = start();
    await publish(publisher, configWith("10.0.0.2:80"));
    written();
    await publish(publisher, configWith("10.0.0.3:80"));
    expect(written()).toHaveLength(2);
    expect((await pointer()).generation).toBe(2);
  });

  test("of an identical state writes nothing, in the same process and after a restart", async () => {
    const publisher = start();
    await publish(publisher, configWith("10.0.0.2:80"));
    written();
    await publish(publisher, configWith("10.0.0.2:80"));
    expect(server.seen).toHaveLength(0);
    await publish(start(), configWith("10.0.0.2:80"));
    expect(written()).toEqual([]);
    expect(kinds()).toEqual(["published", "unchanged", "unchanged"]);
  });

  test("takes the newest configuration of a burst, and that one only", async () => {
    const publisher = start({ pace: { ...PACE, debounceMs: 20 } });
    for (let n = 0; n < 50; n++) publisher.submit(configWith(`10.0.0.${n}:80`));
    await publisher.settled();
    expect(kinds()).toEqual(["published"]);
    expect([...server.store.values()].join()).toContain("10.0.0.49:80");
  });

  test("keeps pointers apart, as KV takes one write a second for a key", async () => {
    // Where they arrive, however long each was on its way.
    const pointerAtMs: number[] = [];
    server.fault = ({ operation, keys }) => {
      if (operation !== "put" || keys[0] !== POINTER_KEY) return undefined;
      pointerAtMs.push(performance.now());
      return { kind: "slow", ms: 5 * pointerAtMs.length };
    };
    const publisher = start({ pace: { ...PACE, pointerDistanceMs: 50 } });
    for (let n = 0; n < 4; n++) await publish(publisher, configWith(`10.0.0.${n}:80`));
    const distances = pointerAtMs.slice(1).map((at, n) => at - (pointerAtMs[n] ?? 0));
    expect(distances).toHaveLength(3);
    for (const distance of distances) expect(distance).toBeGreaterThanOrEqual(50);
  });

  test("survives a clock that was set back: readers see times grow", async () => {
    const publisher = start();
    await publish(publisher, configWith("10.0.0.2:80"));
    nowMs -= 86_400_000;
    await publish(publisher, configWith("10.0.0.3:80"));
    expect((await pointer()).createdAt).toBe("2026-11-23T10:00:00.001Z");
  });
});

test("a read that lags behind our own write changes nothing", async () => {
  const publisher = start();
  await publish(publisher, configWith("10.0.0.2:80"));
  const old = server.store.get(POINTER_KEY) ?? "";
  await publish(publisher, configWith("10.0.0.3:80"));
  const stale = { kind: "answer", body: old } as const;
  server.fault = ({ operation, keys }) =>
    operation === "get" && keys[0] === POINTER_KEY ? stale : undefined;
  written();
  await publish(publisher, configWith("10.0.0.4:80"));
  expect(written()).toHaveLength(2);
  expect((await pointer()).generation).toBe(3);
  expect(publisher.status().leading).toBe(true);
});

describe("failures", () => {
  test.each(["status", "cut", "hang", "nonsense"] as const)(
    "%s on any call, before or after its effect, ends in the right state",
    async (kind) => {
      for (const applied of [false, true]) {
        for (let nth = 0; nth < 6; nth++) {
          server.store.clear();
          let calls = 0;
          server.fault = () =>
            calls++ === nth
              ? kind === "status"
                ? { kind, status: 503, applied }
                : { kind, applied }
              : undefined;
          await publish(start({}, { timeoutMs: 50 }), configWith("10.0.0.2:80"));
          expect(shardsOf(await pointer()).every((shard) => server.store.has(shard))).toBe(true);
          expect([...server.store.values()].join()).toContain("10.0.0.2:80");
        }
      }
      expect(kinds()).toContain("failed");
    },
  );

  test("a partial bulk write never gets a pointer before it is complete", async () => {
    server.fault = ({ operation }) => (operation === "bulk-put" ? { kind: "partial" } : undefined);
    await publish(start(), configWith("10.0.0.2:80", 3_000));
    const keys = written();
    expect(keys.indexOf(POINTER_KEY)).toBe(keys.length - 1);
    expect(shardsOf(await pointer()).every((shard) => server.store.has(shard))).toBe(true);
  });

  test("a lock-out is waited for, and newer configurations with it", async () => {
    const publisher = start();
    await publish(publisher, configWith("10.0.0.2:80"));
    server.seen.length = 0;
    let refused = 0;
    server.fault = () => (refused++ === 0 ? { kind: "status", status: 429, retryAfter: "1" } : undefined);
    publisher.submit(configWith("10.0.0.3:80"));
    while (!kinds().includes("failed")) await new Promise((resolve) => setImmediate(resolve));
    publisher.submit(configWith("10.0.0.4:80"));
    const during = server.seen.length;
    await publisher.settled();
    expect(during).toBe(1);
    expect([...server.store.values()].join()).toContain("10.0.0.4:80");
    expect(kinds()).toEqual(["published", "failed", "published"]);
  });

  test("a configuration that comes while a failed one is tried again is published after it", async () => {
    const publisher = start();
    let requests = 0;
    server.fault = ({ operation }) => {
      requests++;
      if (requests === 1) return { kind: "status", status: 503 };
      // The repetition is under way, and will succeed.
      if (operation === "put") {
        server.fault = () => undefined;
        publisher.submit(configWith("10.0.0.3:80"));
      }
      return undefined;
    };
    await publish(publisher, configWith("10.0.0.2:80"));
    expect(kinds()).toEqual(["failed", "published", "published"]);
    expect([...server.store.values()].join()).toContain("10.0.0.3:80");
  });

  test("a configuration that breaks its contract, after a failure: the next one is published", async () => {
    const publisher = start();
    let requests = 0;
    server.fault = () => (requests++ === 0 ? { kind: "status", status: 503 } : undefined);
    const good = configWith("10.0.0.2:80");
    publisher.submit(good);
    while (!kinds().includes("failed")) await new Promise((resolve) => setImmediate(resolve));
    await publish(publisher, { ...good, backends: {} });
    expect(kinds()).toEqual(["failed", "rejected"]);
    await publish(publisher, good);
    expect(kinds()).toEqual(["failed", "rejected", "published"]);
  });

  test("a refusal keeps its reason in the status until it is repaired", async () => {
    server.fault = () => ({ kind: "status", status: 403 });
    const publisher = start();
    publisher.submit(configWith("10.0.0.2:80"));
    while (events.length < 3) await new Promise((resolve) => setImmediate(resolve));
    expect(publisher.status()).toMatchObject({ pending: true, lastError: expect.stringContaining("403") });
    server.fault = () => undefined;
    await publisher.settled();
    expect(publisher.status()).toMatchObject({ pending: false, generation: 1 });
    expect(publisher.status().lastError).toBeUndefined();
  });

  test("a configuration that breaks its contract is told, and the next one is published", async () => {
    const publisher = start();
    const good = configWith("10.0.0.2:80");
    await publish(publisher, { ...good, backends: {} });
    expect(kinds()).toEqual(["rejected"]);
    expect(server.store.size).toBe(0);
    await publish(publisher, good);
    expect(kinds()).toEqual(["rejected", "published"]);
  });
});

/** A client that stops for ever before its nth call: a process that was killed there. */
function dyingBefore(nth: number): Partial<KvClientOptions> {
  let calls = 0;
  return { beforeCall: () => (calls++ < nth ? Promise.resolve() : new Promise(() => {})) };
}

async function crashAt(nth: number, config: EdgeConfig): Promise<void> {
  const publisher = start({}, dyingBefore(nth));
  publishers.pop(); // It will never close.
  const before = server.seen.length;
  publisher.submit(config);
  while (server.seen.length < before + nth) await new Promise((resolve) => setImmediate(resolve));
}

describe("a crash", () => {
  test("between shards and pointer leaves the old state, and the next run converges", async () => {
    await publish(start(), configWith("10.0.0.2:80"));
    const before = await pointer();
    await crashAt(4, configWith("10.0.0.3:80")); // Three reads and the bulk write.
    expect(await pointer()).toEqual(before);
    expect([...server.store.values()].join()).toContain("10.0.0.3:80"); // The orphan.
    await publish(start(), configWith("10.0.0.4:80"));
    expect((await pointer()).generation).toBe(2);
  });

  test("leaves orphans, which are deleted a grace time after somebody finds them", async () => {
    await crashAt(4, configWith("10.0.0.2:80"));
    const orphans = [...server.store.keys()];
    expect(orphans).toHaveLength(1);
    const pace = { ...PACE, upkeepMs: 5 };
    const publisher = start({ pace });
    await publish(publisher, configWith("10.0.0.3:80"));
    nowMs += PACE.graceMs - 1;
    await upkeep();
    expect(server.store.has(orphans[0] ?? "")).toBe(true);
    nowMs += 1;
    await upkeep();
    expect(server.store.has(orphans[0] ?? "")).toBe(false);
    expect(shardsOf(await pointer()).every((shard) => server.store.has(shard))).toBe(true);
  });
});

/** Waits for two whole rounds of upkeep, each of which lists the keys once. */
async function upkeep(): Promise<void> {
  const lists = (): number => server.seen.filter(({ operation }) => operation === "list").length;
  const target = lists() + 3;
  while (lists() < target) await new Promise((resolve) => setImmediate(resolve));
}

describe("upkeep", () => {
  test("deletes replaced shards after the grace time, and keeps those of the last ten generations", async () => {
    const publisher = start({ pace: { ...PACE, upkeepMs: 5 } });
    for (let n = 0; n < 13; n++) await publish(publisher, configWith(`10.0.0.${n}:80`));
    nowMs += PACE.graceMs;
    await upkeep();
    const kept = [...server.store]
      .filter(([key]) => key.startsWith("s/"))
      .map(([, text]) => /10\.0\.0\.(\d+):80/.exec(text)?.[1]);
    expect(kept.map(Number).sort((a, b) => a - b)).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  });

  test("a restart does not forget the grace time that has begun", async () => {
    const first = start();
    for (let n = 0; n < 12; n++) await publish(first, configWith(`10.0.0.${n}:80`));
    await first.close();
    nowMs += PACE.graceMs;
    const second = start({ pace: { ...PACE, upkeepMs: 5 } });
    await publish(second, configWith("10.0.0.11:80"));
    await upkeep();
    expect([...server.store.values()].join()).not.toContain('"10.0.0.0:80"');
  });

  test.each([
    ["deleted pointer", () => server.store.delete(POINTER_KEY)],
    ["changed pointer", () => server.store.set(POINTER_KEY, "{}")],
    [
      "deleted shard",
      () => server.store.delete([...server.store.keys()].find((key) => key.startsWith("s/")) ?? ""),
    ],
  ])("puts a %s back", async (_, damage) => {
    const publisher = start({ pace: { ...PACE, upkeepMs: 5 } });
    await publish(publisher, configWith("10.0.0.2:80"));
    damage();
    while (!kinds().includes("repaired")) await new Promise((resolve) => setImmediate(resolve));
    expect(shardsOf(await pointer()).every((shard) => server.store.has(shard))).toBe(true);
  });
});

describe("leaders", () => {
  test("a follower writes nothing; when its term begins it publishes the newest configuration", async () => {
    let epoch = 0;
    const publisher = start({ epoch: () => epoch });
    publisher.submit(configWith("10.0.0.2:80"));
    await publisher.settled();
    expect(server.seen).toHaveLength(0);
    epoch = 5;
    publisher.lead();
    await publisher.settled();
    expect(await pointer()).toMatchObject({ epoch: 5, generation: 1 });
  });

  test("a deposed leader stops at the pointer of its successor, whatever it wanted to write", async () => {
    const old = start({ epoch: () => 1 });
    old.lead();
    await publish(old, configWith("10.0.0.2:80"));
    const next = start({ epoch: () => 2 });
    next.lead();
    await publish(next, configWith("10.0.0.3:80"));
    await publish(old, configWith("10.0.0.4:80"));
    expect(kinds().at(-1)).toBe("deposed");
    expect(old.status().leading).toBe(false);
    expect(await pointer()).toMatchObject({ epoch: 2, generation: 2 });
    expect(server.store.get(shardsOf(await pointer())[0] ?? "")).toContain("10.0.0.3:80");
  });

  test("with a key set, a forged pointer of a high epoch stops nobody", async () => {
    const keys = await deriveConfigKeys("k".repeat(32));
    server.store.set(
      POINTER_KEY,
      JSON.stringify({
        version: 1,
        generation: 9,
        epoch: 99,
        createdAt: "2099-01-01T00:00:00Z",
        exact: [],
        wildcard: [],
      }),
    );
    const publisher = start({ epoch: () => 1, keys });
    publisher.lead();
    await publish(publisher, configWith("10.0.0.2:80"));
    expect(await pointer()).toMatchObject({ epoch: 1, generation: 1 });
  });
});

describe("rollback", () => {
  test("brings an earlier generation back under a new one and holds newer configurations until unpinned", async () => {
    const publisher = start();
    for (let n = 1; n <= 3; n++) await publish(publisher, configWith(`10.0.0.${n}:80`));
    expect(publisher.generations().map(({ generation }) => generation)).toEqual([3, 2, 1]);
    await publisher.rollback(1);
    expect(await pointer()).toMatchObject({ generation: 4 });
    expect(server.store.get(shardsOf(await pointer())[0] ?? "")).toContain("10.0.0.1:80");
    await publish(publisher, configWith("10.0.0.5:80"));
    await publisher.close();

    const restarted = start();
    await publish(restarted, configWith("10.0.0.6:80"));
    expect(restarted.status()).toMatchObject({ pinned: 1, generation: 4 });
    await restarted.unpin();
    await restarted.settled();
    expect(await pointer()).toMatchObject({ generation: 5 });
    expect(server.store.get(shardsOf(await pointer())[0] ?? "")).toContain("10.0.0.6:80");
  });

  test("to a generation that is not kept is refused with those that are", async () => {
    const publisher = start();
    await publish(publisher, configWith("10.0.0.1:80"));
    await expect(publisher.rollback(7)).rejects.toThrow("kept are 1");
  });
});
