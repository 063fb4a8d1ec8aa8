import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { oneAtATime } from "./one-at-a-time.mjs";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fairlead-lock-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const MODULE = JSON.stringify(new URL("./one-at-a-time.mjs", import.meta.url).href);

test("two processes that begin together work one after the other", async () => {
  const log = join(folder, "log");
  const script = `
    import { appendFileSync } from "node:fs";
    import { setTimeout } from "node:timers/promises";
    const { oneAtATime } = await import(${MODULE});
    await oneAtATime("work", async () => {
      appendFileSync(${JSON.stringify(log)}, "begin\\n");
      await setTimeout(300);
      appendFileSync(${JSON.stringify(log)}, "end\\n");
    }, { folder: ${JSON.stringify(folder)} });`;
  const children = [1, 2, 3].map(() =>
    spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: "ignore" }),
  );
  const codes = await Promise.all(children.map(async (child) => (await once(child, "exit"))[0]));
  expect(codes).toEqual([0, 0, 0]);
  expect(readFileSync(log, "utf8")).toBe("begin\nend\n".repeat(3));
  expect(readdirSync(folder)).toEqual(["log"]);
});

test("the lock of a process that is no more is taken over, and given back after an error", async () => {
  const { pid } = spawnSync(process.execPath, ["-e", ""]);
  await oneAtATime("work", async () => {}, { folder });
  const lock = await oneAtATime("work", async () => readdirSync(folder)[0] ?? "", { folder });
  writeFileSync(join(folder, lock), String(pid));
  const failing = oneAtATime(
    "work",
    async () => {
      throw new Error("it failed");
    },
    { folder },
  );
  await expect(failing).rejects.toThrow("it failed");
  expect(readdirSync(folder)).toEqual([]);
});

test("whoever waits says for whom", async () => {
  const told: string[] = [];
  const release = Promise.withResolvers<void>();
  const first = oneAtATime("work", () => release.promise, { folder });
  const second = oneAtATime("work", async () => "done", {
    folder,
    tell: (sentence) => {
      told.push(sentence);
      release.resolve();
    },
  });
  await first;
  expect(await second).toBe("done");
  expect(told).toEqual([`another set-up is at it (work, process ${process.pid}); waiting for it`]);
});
