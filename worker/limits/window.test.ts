import fc from "fast-check";
import { expect, test } from "vitest";
import {
  isWindowIdle,
  type WindowUse,
  windowAllowance,
  windowCharge,
  windowRefund,
  windowWait,
} from "./window.ts";

const rate = { limit: 10, windowMilliseconds: 60_000 };

test("the limit passes at once, then nothing until the window slides", () => {
  let use: WindowUse | undefined;
  expect(windowAllowance(use, rate, 0)).toBe(10);
  use = windowCharge(use, rate, 10, 0);
  expect(windowAllowance(use, rate, 59_999)).toBe(0);
  // Half a window later, half of it still counts.
  expect(windowAllowance(use, rate, 90_000)).toBe(5);
  expect(windowAllowance(use, rate, 120_000)).toBe(10);
  expect(isWindowIdle(use, rate, 119_999)).toBe(false);
  expect(isWindowIdle(use, rate, 120_000)).toBe(true);
});

test("a refund gives back what was charged", () => {
  const use = windowCharge(undefined, rate, 4, 0);
  expect(windowAllowance(windowRefund(windowCharge(use, rate, 3, 1), 3), rate, 1)).toBe(6);
});

test("waiting tells the first moment at which one passes", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(40_000), fc.integer({ min: 1, max: 12 })), { maxLength: 12 }),
      (asks) => {
        let use: WindowUse | undefined;
        let now = 0;
        for (const [pause, requests] of asks) {
          now += pause;
          const pass = Math.min(requests, windowAllowance(use, rate, now));
          use = windowCharge(use, rate, pass, now);
          const wait = windowWait(use, rate, now);
          if (windowAllowance(use, rate, now) > 0) {
            expect(wait).toBe(0);
            continue;
          }
          expect(windowAllowance(use, rate, now + wait)).toBeGreaterThan(0);
          expect(windowAllowance(use, rate, now + wait - 1)).toBe(0);
        }
      },
    ),
  );
});

test("in no window of its length do more pass than the limit and what the estimate misses", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(9_000), { minLength: 20, maxLength: 120 }), (pauses) => {
      let use: WindowUse | undefined;
      let now = 0;
      const passed: number[] = [];
      for (const pause of pauses) {
        now += pause;
        if (windowAllowance(use, rate, now) === 0) continue;
        use = windowCharge(use, rate, 1, now);
        passed.push(now);
      }
      for (const start of passed) {
        const inside = passed.filter((at) => at >= start && at < start + rate.windowMilliseconds).length;
        expect(inside).toBeLessThanOrEqual(rate.limit * 2);
      }
    }),
  );
});
