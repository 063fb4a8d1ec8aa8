import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ratePerMinute, ratePerSecond } from "./bucket.ts";
import { type Ask, HOLDER_MS, LEASE_MS, Ledger, type Limits } from "./ledger.ts";

const rps1: Limits = { rates: [ratePerSecond(1, 5)] };

function ask(given: Partial<Ask> = {}): Ask {
  return {
    key: "shop/web 203.0.113.1",
    limits: rps1,
    requests: 1,
    holder: "a",
    unused: 0,
    hot: false,
    ...given,
  };
}

describe("rates", () => {
  test("six pass at once, then one a second, and a refusal says for how long it holds", () => {
    const ledger = new Ledger();
    expect(ledger.take(ask({ requests: 20 }), 0)).toMatchObject({
      admitted: 6,
      refusedBy: "rate",
      blockedMs: 1000,
    });
    expect(ledger.take(ask(), 999)).toMatchObject({ admitted: 0, blockedMs: 1 });
    expect(ledger.take(ask(), 1000)).toMatchObject({ admitted: 1 });
  });

  test("a refusal by one rate charges neither", () => {
    const limits = { rates: [ratePerSecond(100, 5), ratePerMinute(1, 5)] };
    const ledger = new Ledger();
    expect(ledger.take(ask({ limits, requests: 50 }), 0).admitted).toBe(6);
    expect(
      ledger.take(ask({ limits: { rates: limits.rates.slice(0, 1) }, requests: 1000 }), 0).admitted,
    ).toBe(501 - 6);
  });

  test("keys do not share", () => {
    const ledger = new Ledger();
    expect(ledger.take(ask({ requests: 9 }), 0).admitted).toBe(6);
    expect(ledger.take(ask({ requests: 9, key: "shop/web 203.0.113.2" }), 0).admitted).toBe(6);
    expect(ledger.take(ask({ requests: 9, key: "shop/api 203.0.113.1" }), 0).admitted).toBe(6);
  });
});

describe("requests in flight", () => {
  const limits: Limits = { rates: [], connections: 8 };

  test("8 of 20 pass, again and again", () => {
    const ledger = new Ledger();
    for (let round = 0; round < 5; round++) {
      expect(ledger.take(ask({ limits, requests: 20 }), round)).toMatchObject({
        admitted: 8,
        refusedBy: "connections",
        holderHasAll: true,
      });
      ledger.release("shop/web 203.0.113.1", "a", 8, round);
    }
    expect(ledger.size).toBe(0);
  });

  test("what a dead holder had in flight is free again, what a living one has is not", () => {
    const ledger = new Ledger();
    expect(ledger.take(ask({ limits, requests: 5, holder: "dead" }), 0).admitted).toBe(5);
    expect(ledger.take(ask({ limits, requests: 3, holder: "alive" }), 0).admitted).toBe(3);
    ledger.renew("alive", HOLDER_MS - 1);
    expect(ledger.take(ask({ limits, requests: 1 }), HOLDER_MS - 1)).toMatchObject({
      admitted: 0,
      holderHasAll: false,
    });
    expect(ledger.take(ask({ limits, requests: 8 }), HOLDER_MS + 1).admitted).toBe(5);
  });

  test("a request that the slots refuse has used its token", () => {
    const both: Limits = { rates: [ratePerSecond(1, 5)], connections: 2 };
    const ledger = new Ledger();
    expect(ledger.take(ask({ limits: both, requests: 4 }), 0)).toMatchObject({
      admitted: 2,
      refusedBy: "connections",
    });
    ledger.release("shop/web 203.0.113.1", "a", 2, 0);
    expect(ledger.take(ask({ limits: both, requests: 4 }), 0)).toMatchObject({
      admitted: 2,
      refusedBy: "rate",
    });
  });
});

describe("leases", () => {
  const limits: Limits = { rates: [ratePerSecond(10, 5)] };

  test("a hot key is lent a quarter of what is left, a cold one nothing", () => {
    const ledger = new Ledger();
    expect(ledger.take(ask({ limits }), 0)).toMatchObject({ admitted: 1, leased: 0 });
    expect(ledger.take(ask({ limits, hot: true }), 0)).toMatchObject({ admitted: 1, leased: 12 });
  });

  test("a refusal waits for what is lent elsewhere, and what was not used comes back", () => {
    const ledger = new Ledger();
    ledger.take(ask({ limits, holder: "b" }), 0);
    expect(ledger.take(ask({ limits, holder: "b", hot: true }), 0).leased).toBe(12);
    const first = ledger.take(ask({ limits, requests: 60 }), 0);
    expect(first).toMatchObject({ admitted: 37, unsettledUntil: 2 * LEASE_MS });
    ledger.settle("shop/web 203.0.113.1", "b", 10, 0);
    expect(ledger.take(ask({ limits, requests: 23 }), 0)).toMatchObject({ admitted: 10, refusedBy: "rate" });
  });

  test("a lease that nobody settles counts as used", () => {
    const ledger = new Ledger();
    ledger.take(ask({ limits, holder: "b" }), 0);
    ledger.take(ask({ limits, holder: "b", hot: true }), 0);
    ledger.take(ask({ limits, requests: 37 }), 0);
    expect(ledger.take(ask({ limits }), 2 * LEASE_MS)).toMatchObject({ admitted: 1 });
    expect(ledger.take(ask({ limits, requests: 100 }), 2 * LEASE_MS)).toMatchObject({
      admitted: 4,
      refusedBy: "rate",
    });
  });

  test("whatever isolates do, they admit together what one nginx would", () => {
    const holders = ["a", "b", "c"];
    const step = fc.record({
      holder: fc.constantFrom(...holders),
      pause: fc.constantFrom(0, 0, 0, 1, 40, 300),
      requests: fc.integer({ min: 1, max: 6 }),
    });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 12 }), fc.array(step, { maxLength: 80 }), (limit, steps) => {
        const shared: Limits = { rates: [ratePerSecond(limit, 5)] };
        const ledger = new Ledger();
        const alone = new Ledger();
        const leases = new Map<string, { left: number; until: number }>();
        let now = 0;
        let admitted = 0;
        let expected = 0;
        for (const { holder, pause, requests } of steps) {
          now += pause;
          // Isolates settle in time: that is what makes the count exact and not only safe.
          for (const [name, lease] of leases) {
            if (lease.until > now) continue;
            ledger.settle(ask().key, name, lease.left, now);
            leases.delete(name);
          }
          expected += alone.take(ask({ limits: shared, requests }), now).admitted;
          let waiting = requests;
          const lease = leases.get(holder);
          if (lease !== undefined) {
            const used = Math.min(lease.left, waiting);
            lease.left -= used;
            waiting -= used;
            admitted += used;
          }
          if (waiting === 0) continue;
          leases.delete(holder);
          let answer = ledger.take(
            ask({ limits: shared, requests: waiting, holder, unused: 0, hot: true }),
            now,
          );
          admitted += answer.admitted;
          if (answer.unsettledUntil !== undefined) {
            waiting -= answer.admitted;
            for (const [name, other] of leases) ledger.settle(ask().key, name, other.left, now);
            leases.clear();
            answer = ledger.take(ask({ limits: shared, requests: waiting, holder }), now);
            admitted += answer.admitted;
          }
          if (answer.leased > 0) leases.set(holder, { left: answer.leased, until: now + LEASE_MS });
        }
        // Lent requests are charged when they are lent, up to a lease's life before they are made.
        const early = Math.ceil((limit * LEASE_MS) / 1000) * holders.length;
        expect(admitted).toBeLessThanOrEqual(expected + early);
        expect(admitted).toBeGreaterThanOrEqual(expected - early);
      }),
      { numRuns: 500 },
    );
  });
});

describe("bounds", () => {
  test("no more keys than allowed; the one seen longest ago goes", () => {
    const ledger = new Ledger({ maxKeys: 100 });
    for (let client = 0; client < 1_000; client++) ledger.take(ask({ key: String(client), requests: 6 }), 0);
    expect(ledger.size).toBe(100);
    expect(ledger.take(ask({ key: "999" }), 0).admitted).toBe(0);
  });

  test("idle clients are forgotten while others come", () => {
    const ledger = new Ledger();
    for (let client = 0; client < 1_000; client++) ledger.take(ask({ key: String(client) }), client * 1_000);
    expect(ledger.size).toBeLessThan(10);
  });

  test("what lasts survives a restart", () => {
    const perMinute: Limits = { rates: [ratePerMinute(1, 5)] };
    const ledger = new Ledger();
    ledger.take(ask({ limits: perMinute, requests: 6 }), 0);
    ledger.take(ask({ key: "short", requests: 1 }), 0);
    const saved = ledger.save(2_000, 5_000);
    expect(saved.map(({ key }) => key)).toEqual([ask().key]);
    const again = new Ledger();
    again.restore(structuredClone(saved));
    expect(again.take(ask({ limits: perMinute }), 10_000).admitted).toBe(0);
    expect(again.take(ask({ limits: perMinute }), 70_000).admitted).toBe(1);
  });
});
