/** Every line that `npm start` prints does what it says. */

import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";
import { commandOf, TOUR } from "../../examples/tour.ts";

const root = join(import.meta.dirname, "..", "..");
let start: ChildProcess;
let url = "";

beforeAll(async () => {
  start = spawn(
    process.execPath,
    [join(root, "examples", "start.ts"), "--port", "0", "--control-port", "0"],
    {
      stdio: ["ignore", "pipe", "ignore"],
    },
  );
  if (start.stdout === null) throw new Error("no output");
  for await (const line of createInterface({ input: start.stdout })) {
    const [, found] = /^ready (\S+)$/.exec(line) ?? [];
    if (found === undefined) continue;
    url = found;
    break;
  }
});

afterAll(async () => {
  const ended = once(start, "exit");
  start.kill("SIGTERM");
  await ended;
});

const haveCurl = spawnSync("curl", ["--version"]).status === 0;

test.skipIf(!haveCurl).each(TOUR)("$curl", (stop) => {
  expect(execFileSync("sh", ["-c", commandOf(stop, url)], { encoding: "utf8" })).toMatch(stop.expect);
});
