/** Limits that several isolates share: real Durable Objects, and a limiter for each isolate. */

import { createExecutionContext, reset, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, test } from "vitest";
import { ratePerMinute, ratePerSecond } from "../../worker/limits/bucket.ts";
import { createLimiter } from "../../worker/limits/create-limiter.ts";
import type { Answer, Limits } from "../../worker/limits/ledger.ts";
import { type Admission, Limiter, type RequestLimiter } from "../../worker/limits/limiter.ts";

const isolate = (): RequestLimiter =>
  createLimiter(env.LIMITER, { mode: "global", ipv6PrefixLength: 64, headers: false });
const context = createExecutionContext();
const slow: Limits = { rates: [ratePerMinute(1, 5)] };

beforeEach(async () => {
  await reset();
});

const admitted = (admissions: readonly Admission[]): number =>
  admissions.filter(({ kind }) => kind === "Admitted").length;

async function atOnce(
  limiters: readonly RequestLimiter[],
  count: number,
  key: string,
  limits: Limits,
): Promise<number> {
  const asks = Array.from({ length: count }, (_, index) =>
    (limiters[index % limiters.length] as RequestLimiter).admit(key, limits, context),
  );
  return admitted(await Promise.all(asks));
}

describe("one limit, several isolates", () => {
  test("as many pass together as one nginx would let through", async () => {
    for (const isolates of [1, 2, 5]) {
      const limiters = Array.from({ length: isolates }, isolate);
      expect(await atOnce(limiters, 40, `key-${isolates}`, slow), `${isolates} isolates`).toBe(6);
    }
  });

  test("one after the other as well, whoever is asked", async () => {
    const [a, b] = [isolate(), isolate()];
    const order = [a, a, b, a, b, b, b, a, a, b];
    const got: string[] = [];
    for (const limiter of order) got.push((await limiter.admit("turns", slow, context)).kind);
    expect(got.filter((kind) => kind === "Admitted")).toHaveLength(6);
    expect(got.slice(0, 6)).not.toContain("Refused");
  });

  test("what one isolate was lent and did not use, another gets", async () => {
    const limits: Limits = { rates: [ratePerMinute(10, 5)] };
    const [a, b] = [isolate(), isolate()];
    // The second ask makes the key hot, so some are lent; then this isolate falls silent.
    for (let i = 0; i < 3; i++) await a.admit("lent", limits, context);
    expect(3 + (await atOnce([b], 80, "lent", limits))).toBe(51);
  });

  test("8 in flight, over two isolates, again and again", async () => {
    const limits: Limits = { rates: [], connections: 8 };
    const [a, b] = [isolate(), isolate()];
    for (let round = 0; round < 5; round++) {
      const asks = Array.from({ length: 20 }, (_, index) =>
        (index % 2 ? a : b).admit("flight", limits, context),
      );
      const got = await Promise.all(asks);
      expect(admitted(got), `round ${round}`).toBe(8);
      const life = createExecutionContext();
      for (const admission of got) if (admission.kind === "Admitted") admission.release(life);
      await waitOnExecutionContext(life);
      // A refusal for slots that others hold is believed for a moment.
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
  });
});

describe("what reaches the Durable Object", () => {
  test("a flood is refused from memory", async () => {
    const limits: Limits = { rates: [ratePerSecond(10, 5)] };
    const limiter = isolate();
    const count = 3_000;
    let passed = 0;
    for (let i = 0; i < count; i++)
      if ((await limiter.admit("flood", limits, context)).kind === "Admitted") passed++;
    const refused = count - passed;
    expect(refused).toBeGreaterThan(2_000);
    expect(limiter.counts.asks / refused).toBeLessThan(1 / 20);
  });

  test("a visitor who is far from the limit does not pay a way for each request", async () => {
    const limits: Limits = { rates: [ratePerSecond(50, 5)] };
    const limiter = isolate();
    for (let i = 0; i < 30; i++)
      expect((await limiter.admit("visitor", limits, context)).kind).toBe("Admitted");
    expect(limiter.counts.asks).toBeLessThan(10);
  });
});

describe("when the Durable Object cannot be reached", () => {
  test.each([
    ["it fails", () => Promise.reject(new Error("overloaded"))],
    ["it says nothing", () => new Promise<Answer>(() => {})],
  ])("traffic flows and a counter says so: %s", async (_name, take) => {
    const limiter = new Limiter({
      holder: "a",
      addressOf: () => ({ id: "none", take, settle: () => {}, release: () => {}, renew: () => {} }),
    });
    const got = await Promise.all(Array.from({ length: 5 }, () => limiter.admit("x", slow, context)));
    expect(got.map((admission) => admission.kind === "Admitted" && admission.unlimited)).toEqual(
      new Array(5).fill(true),
    );
    expect(limiter.counts.failures).toBe(5);
  });
});

test("counts outlive the object's rest", async () => {
  const limiter = isolate();
  expect(await atOnce([limiter], 10, "rest", slow)).toBe(6);
  const { evictDurableObject, runDurableObjectAlarm } = await import("cloudflare:test");
  const ids = await import("cloudflare:test").then(({ listDurableObjectIds }) =>
    listDurableObjectIds(env.LIMITER),
  );
  expect(ids.length).toBeGreaterThan(0);
  for (const id of ids) {
    await runDurableObjectAlarm(env.LIMITER.get(id));
    await evictDurableObject(env.LIMITER.get(id));
  }
  expect(await atOnce([isolate()], 10, "rest", slow)).toBe(0);
});
