/**
 * Runs one program of the system: `nft`, `iptables-restore`, `conntrack`.
 *
 * In: program, arguments, and what it reads on standard input, whole. Out: its exit code and what it said, or a
 * `CommandError` where it could not be run or did not end in time. Not here: what an exit code means.
 *
 * Input goes through an unlinked file rather than a pipe. `nft -f -` takes the end of its input for the end of the
 * transaction, so an agent that is killed while it writes into a pipe would leave half a transaction in the kernel.
 * A file is complete before the program starts, and is gone when the program is (`command.test.ts` kills a writer).
 */

import { type ChildProcess, spawn } from "node:child_process";
import { UnlinkedFile } from "./unlinked-file.ts";

export interface CommandOptions {
  /** Standard input, in pieces that are joined. Absent: nothing. */
  readonly input?: readonly (string | Uint8Array)[] | undefined;
  /** The program is killed after this time. */
  readonly timeoutMs: number;
  /** Called with every whole line of standard output, in Latin-1 and without its end; the output is then not kept. */
  readonly onLine?: ((line: string) => void) | undefined;
  /**
   * Standard output goes there. For what may be many MiB: `nft` writes a list in pieces of 200 bytes, each of which would be
   * a read and a buffer of its own.
   */
  readonly output?: UnlinkedFile | undefined;
  /** Put before program and arguments: `["nice", "-n", "19"]`, `["ip", "netns", "exec", "test"]`. */
  readonly through?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface CommandResult {
  readonly code: number;
  readonly output: string;
  /** The first 64 KiB: a refused transaction of 100 000 lines may be refused line by line. */
  readonly errors: string;
}

export type CommandFailureReason = "missing" | "timeout" | "signal" | "stopped" | "start" | "output";

/** The program gave no answer. Its message is one sentence. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly program: string;
  readonly reason: CommandFailureReason;

  constructor(program: string, reason: CommandFailureReason, message: string) {
    super(message);
    this.program = program;
    this.reason = reason;
  }
}

const MAX_ERROR_BYTES = 64 * 1024;

/** Rejects with `CommandError` only; a program that fails is a result like any other. */
export async function runCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<CommandResult> {
  throwIfStopped(program, options);
  const input = options.input === undefined ? undefined : fileOf(program, options.input);
  let child: ChildProcess;
  try {
    const words = [...(options.through ?? []), program, ...args];
    const stdio = [input?.descriptor ?? "ignore", options.output?.descriptor ?? "pipe", "pipe"] as const;
    child = startProgram(program, words, stdio);
  } finally {
    input?.close();
  }
  return resultOf(child, program, options);
}

export function throwIfStopped(program: string, { signal }: Pick<CommandOptions, "signal">): void {
  if (signal?.aborted === true)
    throw new CommandError(program, "stopped", `${program} was not started: stopped.`);
}

/** Throws `CommandError` where the system has no room for another process; a program that is missing is told by the child. */
export function startProgram(
  program: string,
  [first = program, ...rest]: readonly string[],
  stdio: readonly ("ignore" | "pipe" | number)[],
): ChildProcess {
  try {
    // The texts of errors are read; they must not be translated.
    return spawn(first, rest, { stdio: [...stdio], env: { ...process.env, LC_ALL: "C" } });
  } catch (error) {
    throw startFailure(program, first, error as NodeJS.ErrnoException);
  }
}

/** What a program that has just got its input says until it ends; from here on its time counts. */
export function resultOf(
  child: ChildProcess,
  program: string,
  { timeoutMs, onLine, signal }: CommandOptions,
): Promise<CommandResult> {
  return new Promise<CommandResult>((resolve, reject) => {
    let ended: CommandFailureReason | undefined;
    const end = (reason: CommandFailureReason): void => {
      ended ??= reason;
      child.kill("SIGKILL");
    };
    const stop = (): void => end("stopped");
    const timer = setTimeout(() => end("timeout"), timeoutMs);
    signal?.addEventListener("abort", stop, { once: true });

    const takeLines = onLine && byLine(onLine);
    const output: Buffer[] = [];
    const errors: Buffer[] = [];
    let errorBytes = 0;
    child.stdout?.on("data", (piece: Buffer) => {
      if (takeLines === undefined) output.push(piece);
      else takeLines(piece);
    });
    child.stderr?.on("data", (piece: Buffer) => {
      if (errorBytes < MAX_ERROR_BYTES) errors.push(piece.subarray(0, MAX_ERROR_BYTES - errorBytes));
      errorBytes += piece.length;
    });
    let isSettled = false;
    const settle = (settled: () => void): void => {
      // A program that could not be started may be told twice.
      if (isSettled) return;
      isSettled = true;
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
      settled();
    };
    child.once("error", (error: NodeJS.ErrnoException) => {
      settle(() => reject(startFailure(program, child.spawnfile, error)));
    });
    child.once("close", (code, killedBy) => {
      settle(() => {
        if (ended === "timeout") {
          reject(new CommandError(program, ended, `${program} did not end within ${timeoutMs / 1000} s.`));
        } else if (ended === "stopped") {
          reject(new CommandError(program, ended, `${program} was stopped.`));
        } else if (code === null) {
          reject(new CommandError(program, "signal", `${program} was ended by ${killedBy ?? "a signal"}.`));
        } else {
          resolve({
            code,
            output: Buffer.concat(output).toString("utf8"),
            errors: Buffer.concat(errors).toString("utf8"),
          });
        }
      });
    });
  });
}

/** A last line without its end is dropped: only a program that was ended leaves one. */
function byLine(take: (line: string) => void): (piece: Buffer) => void {
  let rest = "";
  return (piece) => {
    const lines = (rest + piece.toString("latin1")).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line);
  };
}

function fileOf(program: string, pieces: readonly (string | Uint8Array)[]): UnlinkedFile {
  try {
    return UnlinkedFile.of(pieces);
  } catch (error) {
    throw new CommandError(program, "start", error instanceof Error ? error.message : String(error));
  }
}

function startFailure(program: string, first: string, error: NodeJS.ErrnoException): CommandError {
  if (error.code !== "ENOENT")
    return new CommandError(program, "start", `${first} could not be started: ${error.message}.`);
  return new CommandError(program, "missing", `${first} is not installed, or not on the PATH.`);
}
