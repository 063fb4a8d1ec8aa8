import { expect, test } from "vitest";
import { backoffMs, pause } from "./backoff.ts";

const LIMITS = { firstMs: 100, longestMs: 1_000 };

test("waits double up to the longest, and are cut by at most a half", () => {
  const longest = [0, 1, 2, 3, 4, 1_000].map((failures) => backoffMs(failures, LIMITS, () => 1));
  expect(longest).toEqual([100, 200, 400, 800, 1_000, 1_000]);
  expect(backoffMs(3, LIMITS, () => 0)).toBe(400);
});

test("a pause ends with its signal, and is none after it", async () => {
  const stop = new AbortController();
  const pausing = pause(3_600_000, stop.signal);
  stop.abort();
  await pausing;
  await pause(3_600_000, stop.signal);
  expect(stop.signal.aborted).toBe(true);
});
