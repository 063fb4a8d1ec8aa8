import { expect, test } from "vitest";
import { WeightedLru } from "./lru.ts";

test("what was used longest ago goes first, by weight", () => {
  const lru = new WeightedLru<string, number>(10);
  lru.set("a", 1, 4);
  lru.set("b", 2, 4);
  expect(lru.get("a")).toBe(1);
  lru.set("c", 3, 4);
  expect(lru.has("b")).toBe(false);
  expect([lru.get("a"), lru.get("c"), lru.weight]).toEqual([1, 3, 8]);
});

test("a value in place of another one counts once", () => {
  const lru = new WeightedLru<string, number>(10);
  lru.set("a", 1, 9);
  lru.set("a", 2, 3);
  expect([lru.get("a"), lru.weight, lru.size]).toEqual([2, 3, 1]);
});

test("one that is heavier than the bound is kept alone", () => {
  const lru = new WeightedLru<string, number>(10);
  lru.set("a", 1, 3);
  lru.set("huge", 2, 50);
  expect([lru.get("a"), lru.get("huge"), lru.size]).toEqual([undefined, 2, 1]);
  lru.set("b", 3, 3);
  expect([lru.get("huge"), lru.get("b"), lru.weight]).toEqual([undefined, 3, 3]);
});
