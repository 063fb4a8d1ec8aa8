import fc from "fast-check";
import { expect, test } from "vitest";
import { changedKeys, SortedMap } from "./sorted-map.ts";

/** Few names, so that they meet; more than a chunk holds, so that chunks are cut. */
const key = fc.integer({ min: 0, max: 700 }).map((number) => `k${number}`);
const change = fc.tuple(key, fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }));

const sorted = (map: ReadonlyMap<string, number>): [string, number][] =>
  [...map].sort(([a], [b]) => (a < b ? -1 : 1));

test("after any changes it holds what a Map would hold, in order; the ones before it stay as they were", () => {
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 600 }),
      fc.array(fc.array(change, { maxLength: 40 }), { maxLength: 12 }),
      (first, steps) => {
        const model = new Map<string, number>();
        for (const [name, value] of first) if (value !== undefined) model.set(name, value);
        let map = SortedMap.from(model);
        expect([...map]).toEqual(sorted(model));
        for (const step of steps) {
          const changes = new Map(step);
          const before = map;
          const beforeModel = new Map(model);
          map = map.with(changes);
          for (const [name, value] of changes) {
            if (value === undefined) model.delete(name);
            else model.set(name, value);
          }
          expect([...map]).toEqual(sorted(model));
          expect(map.size).toBe(model.size);
          expect([...map.keys()]).toEqual(sorted(model).map(([name]) => name));
          expect([...map.values()]).toEqual(sorted(model).map(([, value]) => value));
          for (const [name] of step) {
            expect(map.get(name)).toBe(model.get(name));
            expect(map.has(name)).toBe(model.has(name));
          }
          const differing = new Set(
            [...model.keys(), ...beforeModel.keys()].filter(
              (name) => model.get(name) !== beforeModel.get(name),
            ),
          );
          for (const found of [
            [...changedKeys(before, map)],
            [...changedKeys(beforeModel, new Map(model))],
            [...changedKeys(beforeModel, map)],
          ]) {
            expect(new Set(found)).toEqual(differing);
            expect(found).toHaveLength(differing.size);
          }
          if (differing.size === 0) expect(map).toBe(before);
          expect([...before]).toEqual(sorted(beforeModel));
        }
      },
    ),
    { numRuns: 200 },
  );
});

test("an empty one takes its first entry, and a full one gives up its last", () => {
  const empty = SortedMap.from<string, number>([]);
  expect(empty.get("a")).toBeUndefined();
  const one = empty.with(new Map([["a", 1]]));
  expect([...one]).toEqual([["a", 1]]);
  const none = one.with(new Map([["a", undefined]]));
  expect([none.size, [...none]]).toEqual([0, []]);
});
