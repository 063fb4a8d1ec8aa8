import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

test("the space for new objects stops growing under a stream of changes", () => {
  // As an agent does: makes many objects, keeps few. Without the call the space has more than 50 MiB at the end.
  const script = `
    import { getHeapSpaceStatistics } from "node:v8";
    import { boundNewObjects } from ${JSON.stringify(join(import.meta.dirname, "memory.ts"))};
    const kept = [];
    for (let round = 0; round < 1_500; round++) {
      kept[round % 50] = Array.from({ length: 10_000 }, (_, index) => ({ index, round }));
      boundNewObjects();
    }
    const space = getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space");
    console.log(space.physical_space_size / 1024 / 1024);`;
  const args = ["--input-type=module", "--eval", script];
  const mebibytes = Number(execFileSync(process.execPath, args, { encoding: "utf8" }));
  expect(mebibytes).toBeGreaterThan(0);
  expect(mebibytes).toBeLessThanOrEqual(32);
});
