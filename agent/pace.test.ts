import { expect, test } from "vitest";
import { Pace } from "./pace.ts";

/** Changes that come one right after another, each written at once: the delays they get. */
function delaysOfBurst(pace: Pace, costMs: number, count: number): readonly number[] {
  const delays: number[] = [];
  let nowMs = 1_000;
  for (let change = 0; change < count; change++) {
    const delayMs = pace.delayMs(nowMs);
    delays.push(delayMs);
    nowMs += delayMs + costMs;
    pace.written(nowMs, costMs);
  }
  return delays;
}

test("the first change after quiet does not wait", () => {
  const pace = new Pace();
  expect(pace.delayMs(0)).toBe(0);
  pace.written(5, 5);
  expect(pace.delayMs(55)).toBe(0);
});

test("a burst waits longer and longer, up to 50 ms", () => {
  expect(delaysOfBurst(new Pace(), 5, 6)).toEqual([0, 10, 20, 40, 50, 50]);
});

test("a slow write leaves as much time as it takes, up to a second", () => {
  expect(delaysOfBurst(new Pace(), 300, 4)).toEqual([0, 300, 300, 300]);
  expect(delaysOfBurst(new Pace(), 5_000, 4)).toEqual([0, 1_000, 1_000, 1_000]);
});

test("quiet ends a burst", () => {
  const pace = new Pace();
  delaysOfBurst(pace, 5, 6);
  expect(pace.delayMs(100_000)).toBe(0);
  pace.written(100_005, 5);
  expect(pace.delayMs(100_006)).toBe(10);
});
