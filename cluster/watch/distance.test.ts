import { expect, test } from "vitest";
import { distanceAfter } from "./cluster-watch.ts";

/** The distance that a steady stream of changes settles at. */
function settled(changesASecond: number): number {
  let distanceMs = distanceAfter(1);
  for (let model = 0; model < 200; model++) distanceMs = distanceAfter((distanceMs / 1_000) * changesASecond);
  return Math.round(distanceMs);
}

test.each([
  ["single changes hardly wait", 1, 20],
  ["a hundred a second", 100, 25],
  ["a storm waits for its bound and no longer", 1_000, 200],
  ["any storm", 100_000, 200],
])("%s", (_, changesASecond, expected) => {
  expect(settled(changesASecond)).toBe(expected);
});
