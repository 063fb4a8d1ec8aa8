/** The end of a test run: which skips are allowed, and the last line. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./process.mjs";

/** Lines `SUITE: beginning of the test's name — reason` of `tests/allowed-skips.txt`. */
export function allowedSkips() {
  return readFileSync(join(root, "tests", "allowed-skips.txt"), "utf8")
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .map((line) => {
      const [name, reason] = line.split(" — ");
      if (name === undefined || reason === undefined)
        throw new Error(`tests/allowed-skips.txt: "${line}" gives no reason.`);
      return { name: name.trim(), reason: reason.trim() };
    });
}

/** The skips that no line of the list allows, as `suite: test`. */
export function judgeSkips(results, allowed) {
  const skips = results.flatMap((result) => result.skips.map((test) => `${result.name}: ${test}`));
  return skips.filter((skip) => !allowed.some(({ name }) => skip.startsWith(name)));
}

export function printSummary(results, unlisted) {
  const write = (line) => process.stdout.write(`${line}\n`);
  write("");
  for (const result of results) for (const test of result.skips) write(`SKIPPED ${result.name}: ${test}`);
  for (const skip of unlisted) write(`NOT ALLOWED TO SKIP (tests/allowed-skips.txt): ${skip}`);
  for (const result of results) for (const test of result.failures) write(`FAILED ${result.name}: ${test}`);
  const sum = (count) => results.reduce((total, result) => total + count(result), 0);
  const skipped = sum((result) => result.skips.length);
  // A skip that is not allowed is a failure, and counted as one only.
  const failed = sum((result) => result.failed) + unlisted.length;
  write(`${sum((result) => result.passed)} passed, ${failed} failed, ${skipped - unlisted.length} skipped`);
}
