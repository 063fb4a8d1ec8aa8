/**
 * `npm test`: sets up what is missing, runs every suite, and ends with one line over all of them:
 * `N passed, N failed, N skipped`. Exit code 1 when anything failed, or was skipped without standing on the list
 * `tests/allowed-skips.txt`.
 */
import { orFail, setUpEverything } from "./main.mjs";
import { suites } from "./suites.mjs";
import { allowedSkips, judgeSkips, printSummary } from "./summary.mjs";

await orFail(async () => {
  const only = process.argv.slice(2);
  const unknown = only.filter((name) => suites.every((suite) => suite.name !== name));
  if (unknown.length > 0) throw new Error(`there is no suite ${unknown.join(", ")}`);
  await setUpEverything();
  const results = [];
  for (const suite of suites) {
    if (only.length > 0 ? !only.includes(suite.name) : suite.onlyWhenNamed) continue;
    process.stdout.write(`\n== ${suite.name}: ${suite.what}\n`);
    const startedAt = Date.now();
    const result = await suite.run();
    const seconds = Math.round((Date.now() - startedAt) / 1000);
    process.stdout.write(
      `== ${suite.name}: ${result.passed} passed, ${result.failed} failed, ${result.skips.length} skipped in ${seconds} s\n`,
    );
    results.push({ name: suite.name, ...result });
  }
  const unlisted = judgeSkips(results, allowedSkips());
  const failed = results.some((result) => result.failed > 0) || unlisted.length > 0;
  if (failed) process.exitCode = 1;
  printSummary(results, unlisted);
});
