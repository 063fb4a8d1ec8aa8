import fc from "fast-check";
import { expect, test } from "vitest";
import {
  allowance,
  type Bucket,
  charge,
  ratePerMinute,
  ratePerSecond,
  refund,
  waitMilliseconds,
} from "./bucket.ts";

/** How many of `tries` requests at one moment pass an idle client. */
function admittedFromIdle(rate: ReturnType<typeof ratePerSecond>, tries: number): number {
  let bucket: Bucket | undefined;
  let passed = 0;
  for (let i = 0; i < tries; i++) {
    if (allowance(bucket, rate, 0) === 0) continue;
    bucket = charge(bucket, rate, 1, 0);
    passed++;
  }
  return passed;
}

test("from idle as many pass as nginx 1.22 lets through", () => {
  expect([1, 5, 10].map((limit) => admittedFromIdle(ratePerSecond(limit, 5), 400))).toEqual([6, 26, 51]);
  expect([1, 60].map((limit) => admittedFromIdle(ratePerMinute(limit, 5), 400))).toEqual([6, 301]);
});

test("once the burst is used, one passes each 1/rate seconds, and waiting tells when", () => {
  const rate = ratePerSecond(2, 5);
  let bucket: Bucket | undefined = charge(undefined, rate, allowance(undefined, rate, 0), 0);
  for (let now = 0; now < 5_000; ) {
    const wait = waitMilliseconds(bucket, rate, now);
    expect(wait).toBeGreaterThan(0);
    expect(allowance(bucket, rate, now + wait - 1)).toBe(0);
    now += wait;
    expect(allowance(bucket, rate, now)).toBe(1);
    bucket = charge(bucket, rate, 1, now);
  }
});

test("agrees with ngx_http_limit_req_lookup on every sequence", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 0, max: 5 }),
      fc.array(fc.integer({ min: 0, max: 3_000 }), { maxLength: 60 }),
      (limit, multiplier, pauses) => {
        const rate = ratePerSecond(limit, multiplier);
        let bucket: Bucket | undefined;
        let node: { excess: number; last: number } | undefined;
        let now = 0;
        for (const pause of pauses) {
          now += pause;
          // The module's arithmetic: the new request is added before the floor of 0, then compared with the burst.
          const excess =
            node === undefined
              ? 0
              : Math.max(
                  0,
                  node.excess - Math.floor((rate.drainPerSecond * (now - node.last)) / 1000) + 1000,
                );
          const passes = excess <= rate.burst;
          if (passes) node = { excess, last: now };
          expect(allowance(bucket, rate, now) > 0).toBe(passes);
          if (passes) bucket = charge(bucket, rate, 1, now);
        }
      },
    ),
  );
});

test("a refund undoes a charge", () => {
  const rate = ratePerSecond(3, 5);
  const before = charge(undefined, rate, 4, 0);
  expect(allowance(refund(charge(before, rate, 5, 0), 5), rate, 0)).toBe(allowance(before, rate, 0));
});

test("several requests at once pass exactly as one after the other", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 10 }),
      fc.array(fc.tuple(fc.nat(900), fc.integer({ min: 1, max: 9 })), { maxLength: 20 }),
      (limit, asks) => {
        const rate = ratePerSecond(limit, 5);
        let together: Bucket | undefined;
        let single: Bucket | undefined;
        let now = 0;
        for (const [pause, requests] of asks) {
          now += pause;
          const pass = Math.min(requests, allowance(together, rate, now));
          if (pass > 0) together = charge(together, rate, pass, now);
          let passed = 0;
          for (let i = 0; i < requests; i++) {
            if (allowance(single, rate, now) === 0) continue;
            single = charge(single, rate, 1, now);
            passed++;
          }
          expect(pass).toBe(passed);
        }
      },
    ),
  );
});
