import { describe, expect, test } from "vitest";
import { CommandError, runCommand } from "./command.ts";
import { UnlinkedFile } from "./unlinked-file.ts";

const timeoutMs = 10_000;

describe("runCommand", () => {
  test("input of several pieces arrives whole and in order, output comes back", async () => {
    const pieces = ["first ", new TextEncoder().encode("second "), "x".repeat(300_000)];
    const result = await runCommand("cat", [], { input: pieces, timeoutMs });
    expect(result).toEqual({ code: 0, output: `first second ${"x".repeat(300_000)}`, errors: "" });
  });

  test("input is complete and rewound for a program that opens /dev/stdin by its name", async () => {
    const result = await runCommand("sh", ["-c", "wc -c </dev/stdin"], { input: ["12345"], timeoutMs });
    expect(result.output.trim()).toBe("5");
  });

  test("input is a file, so that the death of the writer cannot shorten it", async () => {
    const result = await runCommand("stat", ["-L", "-c", "%F %h %s", "/dev/stdin"], {
      input: ["abc"],
      timeoutMs,
    });
    expect(result.output.trim()).toBe("regular file 0 3");
  });

  test("output goes to a file whole, however it was written", async () => {
    const script =
      "for i in 1 2 3; do echo $i; done; head -c 3000000 /dev/zero; echo end; echo said >&2; exit 4";
    const file = UnlinkedFile.of([]);
    const result = await runCommand("sh", ["-c", script], { output: file, timeoutMs });
    expect(result).toEqual({ code: 4, output: "", errors: "said\n" });
    const bytes = Buffer.from(file.whole());
    expect(bytes).toHaveLength(3_000_010);
    expect([bytes.toString("latin1", 0, 6), bytes.toString("latin1", 3_000_006)]).toEqual([
      "1\n2\n3\n",
      "end\n",
    ]);
    file.close();
  });

  test("a program that fails is a result", async () => {
    const result = await runCommand("sh", ["-c", "echo wrong >&2; exit 7"], { timeoutMs });
    expect(result).toEqual({ code: 7, output: "", errors: "wrong\n" });
  });

  test("errors are kept up to a bound and the program is not held up", async () => {
    const result = await runCommand("sh", ["-c", "head -c 1000000 /dev/zero >&2; exit 3"], { timeoutMs });
    expect(result.code).toBe(3);
    expect(result.errors).toHaveLength(64 * 1024);
  });

  test.each([
    ["missing", "fairlead-no-such-program", [], "fairlead-no-such-program is not installed"],
    ["signal", "sh", ["-c", "kill -TERM $$"], "sh was ended by SIGTERM."],
  ] as const)("%s", async (reason, program, args, message) => {
    const failure = await runCommand(program, args, { timeoutMs }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(CommandError);
    expect(failure).toMatchObject({ reason, message: expect.stringContaining(message) });
  });

  test("what the system does not start at all is an error of the same kind", async () => {
    // As when there is no memory for another process: `spawn` throws.
    const failure = await runCommand("true", ["\0"], { timeoutMs, input: ["x"] }).catch(
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(CommandError);
    expect(failure).toMatchObject({
      reason: "start",
      message: expect.stringMatching(/^true could not be started: /),
    });
  });

  test("a program that does not end is killed", async () => {
    const failure = await runCommand("sleep", ["600"], { timeoutMs: 50 }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ reason: "timeout", message: "sleep did not end within 0.05 s." });
  });

  test("a signal stops it", async () => {
    const stop = new AbortController();
    const running = runCommand("sleep", ["600"], { timeoutMs, signal: stop.signal });
    stop.abort();
    await expect(running).rejects.toMatchObject({ reason: "stopped" });
    await expect(runCommand("true", [], { timeoutMs, signal: stop.signal })).rejects.toMatchObject({
      reason: "stopped",
    });
  });
});
