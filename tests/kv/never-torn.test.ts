/**
 * The promise of the layout, tried with random failures: readers that run all the while see only whole
 * configurations, each of which somebody submitted, never an older one after a newer one; and when the
 * failures end, the newest one stands.
 */

import fc from "fast-check";
import { expect, test } from "vitest";
import { createKvClient } from "../../control/kv/client.ts";
import { createPublisher, type Publisher } from "../../control/kv/publisher.ts";
import type { EdgeConfig } from "../../edge-config/config.ts";
import { deriveConfigKeys } from "../../edge-config/config-keys.ts";
import { decodeHostRecord } from "../../edge-config/host-record.ts";
import { decodePointer, POINTER_KEY, type Pointer, shardsOf, supersedes } from "../../edge-config/pointer.ts";
import { readShard } from "../../edge-config/shard.ts";
import { type Fault, type KvServer, startKvServer } from "./kv-server.ts";

const keys = await deriveConfigKeys("never torn whatever happens to it");
const GRACE_MS = 1_000_000;
const HOSTS = 12;

/** Configuration number `n`: every host names the number, so a mixture of two is plain to see. */
function configNumber(n: number): EdgeConfig {
  const hosts = Array.from({ length: HOSTS }, (_, at) =>
    at === 0 ? "*" : at < 4 ? `*.h${at}.example` : `h${at}.example`,
  );
  return {
    version: 1,
    hosts: Object.fromEntries(
      hosts.map((host) => [
        host,
        {
          matching: "kubernetes",
          routes: [{ path: `/${n}`, pathType: "Exact", ingress: "a/b", backend: "a-web-80" }],
        },
      ]),
    ),
    backends: { "a-web-80": { namespace: "a", service: "web", port: "80", endpoints: [`10.0.0.1:${n}`] } },
  };
}

const fault: fc.Arbitrary<Fault | undefined> = fc.oneof(
  { weight: 6, arbitrary: fc.constant(undefined) },
  {
    weight: 4,
    arbitrary: fc.oneof(
      fc.record({
        kind: fc.constant("status" as const),
        status: fc.constantFrom(500, 503),
        applied: fc.boolean(),
      }),
      fc.record({
        kind: fc.constant("status" as const),
        status: fc.constant(429),
        retryAfter: fc.constant("0"),
      }),
      fc.record({ kind: fc.constant("cut" as const), applied: fc.boolean() }),
      fc.record({ kind: fc.constant("hang" as const), applied: fc.boolean() }),
      fc.record({ kind: fc.constant("nonsense" as const), applied: fc.boolean() }),
      fc.record({ kind: fc.constant("slow" as const), ms: fc.integer({ min: 1, max: 5 }) }),
      fc.constant({ kind: "partial" } as const),
    ),
  },
);

const step = fc.record({
  /** Which configuration is submitted: the next one, or the one before again. */
  next: fc.boolean(),
  faults: fc.array(fault, { maxLength: 10 }),
  /** The publisher dies before its nth call, and another one starts. */
  diesBefore: fc.option(fc.nat(8), { nil: undefined }),
  /** Thousandths of the grace time that pass. */
  clock: fc.integer({ min: 0, max: 400 }),
});

/**
 * Reads as a Worker does, but everything, and checks what it reads. Between two reads it lets `pause`
 * requests of publishers pass, so that a slow reader still follows a pointer that was replaced long ago.
 */
function startReader(
  server: KvServer,
  clock: () => number,
  highest: () => number,
  pause: number,
): { readonly stop: () => Promise<void>; readonly adopted: number[] } {
  const adopted: number[] = [];
  let running = true;
  let current: Pointer | undefined;
  const read = async (): Promise<void> => {
    const startedMs = clock();
    const text = server.store.get(POINTER_KEY);
    await wait();
    if (text === undefined) return;
    const reading = await decodePointer(text, keys);
    if (reading.kind === "refused") throw new Error(reading.reason);
    const { pointer } = reading.loaded;
    if (current !== undefined && !supersedes(pointer, current)) return;
    const numbers = new Set<string>();
    let hosts = 0;
    for (const name of shardsOf(pointer)) {
      const shardText = server.store.get(name);
      if (shardText === undefined && clock() - startedMs >= GRACE_MS) return; // It took longer than is promised.
      if (shardText === undefined) throw new Error(`The pointer names ${name}, which is not there.`);
      const shard = await readShard(name, shardText);
      if (shard.kind === "refused") throw new Error(shard.reason);
      for (const host of shard.shard.hosts()) {
        const record = await decodeHostRecord(host, shard.shard.record(host) ?? "", keys);
        hosts++;
        numbers.add(record.config.routes[0]?.path.slice(1) ?? "");
        numbers.add(record.backends.get("a-web-80")?.endpoints[0]?.split(":")[1] ?? "");
      }
      await wait();
    }
    if (numbers.size !== 1 || hosts !== HOSTS)
      throw new Error(`Torn: ${hosts} hosts of configurations ${[...numbers]}.`);
    const number = Number([...numbers][0]);
    if (number > highest()) throw new Error(`Configuration ${number} was never submitted.`);
    current = pointer;
    adopted.push(number);
  };
  const wait = async (): Promise<void> => {
    const target = server.seen.length + pause;
    do await turn();
    while (running && server.seen.length < target);
  };
  const loop = (async () => {
    while (running) {
      await read();
      await turn();
    }
    await read();
  })();
  loop.catch(() => {}); // Reported by `stop`.
  return {
    adopted,
    stop: () => {
      running = false;
      return loop;
    },
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("readers never see a torn or unknown configuration, and the next run converges", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
      const server = await startKvServer();
      let nowMs = Date.parse("2026-11-23T10:00:00Z");
      let number = 0;
      const readers = [0, 5, 20].map((pause) =>
        startReader(
          server,
          () => nowMs,
          () => number,
          pause,
        ),
      );
      const living: Publisher[] = [];
      const start = (
        diesBefore = Number.POSITIVE_INFINITY,
      ): { publisher: Publisher; died: Promise<void> } => {
        let calls = 0;
        let die: () => void = () => {};
        const died = new Promise<void>((resolve) => {
          die = resolve;
        });
        const publisher = createPublisher({
          client: createKvClient({
            ...server,
            timeoutMs: 100,
            beforeCall: () => {
              if (calls++ < diesBefore) return Promise.resolve();
              die();
              return new Promise(() => {});
            },
          }),
          keys,
          pace: {
            debounceMs: 0,
            pointerDistanceMs: 0,
            graceMs: GRACE_MS,
            upkeepMs: 4,
            lagMs: 0,
            retryMinMs: 1,
            retryMaxMs: 2,
          },
          now: () => nowMs,
        });
        if (diesBefore === Number.POSITIVE_INFINITY) living.push(publisher);
        return { publisher, died };
      };

      let publisher: Publisher | undefined;
      try {
        for (const { next, faults, diesBefore, clock } of steps) {
          if (next) number++;
          nowMs += (GRACE_MS * clock) / 1_000;
          const queue = [...faults];
          server.fault = () => queue.shift();
          if (diesBefore === undefined) {
            publisher ??= start().publisher;
            publisher.submit(configNumber(number));
            await publisher.settled();
          } else {
            // One publisher at a time: the one before is gone when the next one starts.
            await publisher?.close();
            publisher = undefined;
            const mortal = start(diesBefore);
            mortal.publisher.submit(configNumber(number));
            await Promise.race([mortal.died, mortal.publisher.settled()]);
            mortal.publisher.follow();
          }
        }
        server.fault = () => undefined;
        publisher ??= start().publisher;
        publisher.submit(configNumber(number));
        await publisher.settled();
        for (const reader of readers) {
          await reader.stop();
          expect(reader.adopted.at(-1)).toBe(number);
          expect(reader.adopted).toEqual([...reader.adopted].sort((left, right) => left - right));
        }
      } finally {
        await Promise.allSettled([
          ...readers.map((reader) => reader.stop()),
          ...living.map((one) => one.close()),
        ]);
        await server.close();
      }
    }),
    { numRuns: 40, endOnFailure: true },
  );
}, 60_000);
