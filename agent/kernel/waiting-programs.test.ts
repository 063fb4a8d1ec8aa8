import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { makeNamespace, type TestNamespace, whyNoKernel } from "../testing/namespace.ts";
import { CommandError } from "./command.ts";
import { applyNft } from "./nft.ts";
import { WaitingPrograms } from "./waiting-programs.ts";

const timeoutMs = 10_000;
const WAIT = { timeout: 10_000, interval: 10 };

let folder = "";
let programs: WaitingPrograms;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "fairlead-waiting-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => programs.close());

/** A program that notes its number when it starts, reads its input, and tells where that came from. */
function noting(name: string): {
  readonly args: readonly string[];
  readonly started: () => readonly string[];
} {
  const path = join(folder, name);
  writeFileSync(path, "");
  return {
    args: ["-c", `echo $$ >> ${path}; input=$(cat); echo "$$ $(stat -L -c %F /dev/fd/0) $input"`],
    started: () => readFileSync(path, "utf8").split("\n").filter(Boolean),
  };
}

test("after a run the next program is started, and takes the next input", async () => {
  programs = new WaitingPrograms();
  const { args, started } = noting("next");
  const first = await programs.run("sh", args, { input: ["a ", "b"], timeoutMs });
  expect(first).toMatchObject({ code: 0, output: `${started()[0]} regular file a b\n` });
  await vi.waitFor(() => expect(started()).toHaveLength(2), WAIT);
  const second = await programs.run("sh", args, { input: ["c"], timeoutMs });
  expect(second).toMatchObject({ code: 0, output: `${started()[1]} socket c\n` });
  await vi.waitFor(() => expect(started()).toHaveLength(3), WAIT);
});

test("what is too large for one write goes by way of a file", async () => {
  programs = new WaitingPrograms();
  const { args, started } = noting("large");
  await programs.run("sh", args, { input: ["a"], timeoutMs });
  await vi.waitFor(() => expect(started()).toHaveLength(2), WAIT);
  const large = await programs.run("sh", args, { input: ["x".repeat(16 * 1024 + 1)], timeoutMs });
  expect(large.output).toMatch(/^\d+ regular file x+\n$/);
  // The one that waits still does.
  const small = await programs.run("sh", args, { input: ["b"], timeoutMs });
  expect(small.output).toBe(`${started()[1]} socket b\n`);
});

test("where sockets hold little, less goes into one", async () => {
  programs = new WaitingPrograms(4_000);
  const { args, started } = noting("little");
  await programs.run("sh", args, { input: ["a"], timeoutMs });
  await vi.waitFor(() => expect(started()).toHaveLength(2), WAIT);
  const large = await programs.run("sh", args, { input: ["x".repeat(1_001)], timeoutMs });
  expect(large.output).toContain(" regular file x");
  const small = await programs.run("sh", args, { input: ["x".repeat(1_000)], timeoutMs });
  expect(small.output).toContain(`${started()[1]} socket x`);
});

test("of programs that take turns each has one that waits", async () => {
  programs = new WaitingPrograms();
  const [ipv4, ipv6] = [noting("ipv4"), noting("ipv6")];
  for (const { args } of [ipv4, ipv6]) await programs.run("sh", args, { input: ["a"], timeoutMs });
  for (const { args, started } of [ipv4, ipv6]) {
    await vi.waitFor(() => expect(started()).toHaveLength(2), WAIT);
    const next = await programs.run("sh", args, { input: ["b"], timeoutMs });
    expect(next.output).toBe(`${started()[1]} socket b\n`);
  }
});

test("one that was ended while it waited is missed by nobody", async () => {
  programs = new WaitingPrograms();
  const { args, started } = noting("ended");
  await programs.run("sh", args, { input: ["a"], timeoutMs });
  await vi.waitFor(() => expect(started()).toHaveLength(2), WAIT);
  process.kill(Number(started()[1]), "SIGKILL");
  await vi.waitFor(() => expect(() => process.kill(Number(started()[1]), 0)).toThrow(), WAIT);
  expect((await programs.run("sh", args, { input: ["b"], timeoutMs })).output).toBe(
    `${started()[2]} regular file b\n`,
  );
});

test("one that cannot be started costs nothing but its waiting", async () => {
  programs = new WaitingPrograms();
  for (const [program, args] of [
    ["fairlead-no-such-program", []],
    ["true", ["\0"]],
  ] as const) {
    for (let time = 0; time < 2; time++) {
      await expect(programs.run(program, args, { input: ["a"], timeoutMs })).rejects.toBeInstanceOf(
        CommandError,
      );
      // The next one is started a turn later.
      await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    }
  }
});

test("those that wait end when the agent does, without input", async () => {
  programs = new WaitingPrograms();
  const { args, started } = noting("closed");
  await programs.run("sh", args, { input: ["a"], timeoutMs });
  await vi.waitFor(() => expect(started()).toHaveLength(2), WAIT);
  programs.close();
  await vi.waitFor(() => expect(() => process.kill(Number(started()[1]), 0)).toThrow(), WAIT);
  expect(started()).toHaveLength(2);
});

test("its time begins with its input, and it can be stopped", async () => {
  programs = new WaitingPrograms();
  const path = join(folder, "slow");
  writeFileSync(path, "");
  const args = ["-c", `echo >> ${path}; read -r line; [ "$line" = slow ] && exec sleep 600; echo "$line"`];
  const run = (line: string, options = {}) =>
    programs.run("sh", args, { input: [`${line}\n`], timeoutMs, ...options });
  const waits = (count: number) =>
    vi.waitFor(() => expect(readFileSync(path, "utf8")).toHaveLength(count), WAIT);
  expect((await run("quick")).output).toBe("quick\n");
  await waits(2);
  await expect(run("slow", { timeoutMs: 50 })).rejects.toMatchObject({ reason: "timeout" });
  await waits(3);
  const stop = new AbortController();
  const running = run("slow", { signal: stop.signal });
  stop.abort();
  await expect(running).rejects.toMatchObject({ reason: "stopped" });
});

const reason = whyNoKernel(["nft"]);
describe.skipIf(reason !== undefined)(`in a namespace${reason === undefined ? "" : ` (${reason})`}`, () => {
  let space: TestNamespace;
  beforeAll(() => {
    space = makeNamespace("waiting");
    space.run("nft add table ip t");
    space.run("nft add set ip t s '{ type ipv4_addr; }'");
  });
  afterAll(() => space.remove());

  test("a refused transaction is told as it is without one that waits", async () => {
    programs = new WaitingPrograms();
    const options = { through: space.through, waiting: programs };
    await applyNft(["add element ip t s { 10.9.0.1 }\n"], options);
    for (let time = 0; time < 3; time++) {
      await expect(
        applyNft(["add table ip t\n", "add element ip t no { 10.0.0.1 }\n"], options),
      ).rejects.toThrow(
        /^nft refused the transaction at line 2 \(add element ip t no .*No such file or directory/,
      );
    }
    await applyNft(["delete element ip t s { 10.9.0.1 }\n"], options);
  });

  test("an agent that is killed leaves whole transactions or none", async () => {
    programs = new WaitingPrograms();
    const addresses = Array.from({ length: 900 }, (_, n) => `10.${n % 4}.${n % 250}.${n % 200}`);
    const elements = [...new Set(addresses)];
    const script = join(folder, "agent.ts");
    writeFileSync(
      script,
      `import { applyNft } from ${JSON.stringify(join(import.meta.dirname, "nft.ts"))};
import { WaitingPrograms } from ${JSON.stringify(join(import.meta.dirname, "waiting-programs.ts"))};
const waiting = new WaitingPrograms();
for (let verb = "add"; ; verb = verb === "add" ? "delete" : "add") {
  await applyNft([${JSON.stringify("flush set ip t s\n")}, verb === "add" ? ${JSON.stringify(`add element ip t s { ${elements.join(", ")} }\n`)} : ""], { waiting });
  console.log(verb);
  await new Promise((resolve) => setTimeout(resolve, 3));
}
`,
    );
    for (let round = 0; round < 12; round++) {
      const [first = "", ...rest] = [...space.through, process.execPath, script];
      const child = spawn(first, rest, { stdio: ["ignore", "pipe", "inherit"] });
      for (let heard = ""; heard.split("\n").length < 6; ) heard += String(await once(child.stdout, "data"));
      // Somewhere in a turn, which takes some ten milliseconds.
      await new Promise((resolve) => setTimeout(resolve, round * 1.5));
      child.kill("SIGKILL");
      await once(child, "close");
      // Whoever had its input is at work until it has ended.
      await vi.waitFor(
        () => expect(execFileSync("ip", ["netns", "pids", space.name], { encoding: "utf8" })).toBe(""),
        WAIT,
      );
      const held = space.run("nft list set ip t s").match(/\d+\.\d+\.\d+\.\d+/g) ?? [];
      expect([0, elements.length], `round ${round}`).toContain(held.length);
    }
  });
});
