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

import { spawn } from "node:child_process";
import { closeSync, openSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface CommandOptions {
  /** Standard input, in pieces that are joined. Absent: nothing. */
  readonly input?: readonly (string | Uint8Array)[] | undefined;
  /** The program is killed after this time. */
  readonly timeoutMs: number;
  /** Called with every piece of standard output, which is then not kept. */
  readonly onOutput?: ((piece: Buffer) => void) | undefined;
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

export type CommandFailureReason = "missing" | "timeout" | "signal" | "stopped" | "start";

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
export function runCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<CommandResult> {
  const { timeoutMs, onOutput, signal, through = [] } = options;
  const [first = program, ...rest] = [...through, program, ...args];
  if (signal?.aborted === true)
    return Promise.reject(new CommandError(program, "stopped", `${program} was not started: stopped.`));
  const input = options.input === undefined ? undefined : inputFile(options.input);
  return new Promise<CommandResult>((resolve, reject) => {
    const child = spawn(first, rest, {
      stdio: [input ?? "ignore", "pipe", "pipe"],
      // The texts of errors are read; they must not be translated.
      env: { ...process.env, LC_ALL: "C" },
    });
    if (input !== undefined) closeSync(input);
    let ended: CommandFailureReason | undefined;
    const end = (reason: CommandFailureReason): void => {
      ended ??= reason;
      child.kill("SIGKILL");
    };
    const stop = (): void => end("stopped");
    const timer = setTimeout(() => end("timeout"), timeoutMs);
    signal?.addEventListener("abort", stop, { once: true });

    const output: Buffer[] = [];
    const errors: Buffer[] = [];
    let errorBytes = 0;
    child.stdout?.on("data", (piece: Buffer) => {
      if (onOutput === undefined) output.push(piece);
      else onOutput(piece);
    });
    child.stderr?.on("data", (piece: Buffer) => {
      if (errorBytes < MAX_ERROR_BYTES) errors.push(piece.subarray(0, MAX_ERROR_BYTES - errorBytes));
      errorBytes += piece.length;
    });
    const settle = (settled: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
      settled();
    };
    child.once("error", (error: NodeJS.ErrnoException) => {
      settle(() => reject(startFailure(program, first, error)));
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

function startFailure(program: string, first: string, error: NodeJS.ErrnoException): CommandError {
  if (error.code !== "ENOENT")
    return new CommandError(program, "start", `${first} could not be started: ${error.message}.`);
  return new CommandError(program, "missing", `${first} is not installed, or not on the PATH.`);
}

/** Memory before disk: a node under disk pressure still has to change its rules. */
const INPUT_FOLDERS = ["/dev/shm", "/run", tmpdir()] as const;
/** O_TMPFILE with O_DIRECTORY as Linux defines them; Node's `constants` lack it. */
const O_TMPFILE = 0o20200000;
const O_RDWR = 2;
let nextInput = 0;

/** A descriptor of an unlinked file that holds the pieces, read from its start by whoever opens `/dev/stdin`. */
function inputFile(pieces: readonly (string | Uint8Array)[]): number {
  const writer = openUnlinked();
  let position = 0;
  for (const piece of pieces) {
    const bytes = typeof piece === "string" ? Buffer.from(piece, "utf8") : piece;
    // With positions the offset of the descriptor stays at 0, where the child begins to read.
    for (let done = 0; done < bytes.length; )
      done += writeSync(writer, bytes, done, bytes.length - done, position + done);
    position += bytes.length;
  }
  return writer;
}

function openUnlinked(): number {
  let failure: unknown;
  for (const folder of INPUT_FOLDERS) {
    try {
      return openSync(folder, O_TMPFILE | O_RDWR, 0o600);
    } catch (error) {
      failure = error;
    }
    try {
      const path = join(folder, `.fairlead-${process.pid}-${nextInput++}`);
      const descriptor = openSync(path, "wx+", 0o600);
      unlinkSync(path);
      return descriptor;
    } catch (error) {
      failure = error;
    }
  }
  throw new CommandError(
    "",
    "start",
    `No folder of ${INPUT_FOLDERS.join(", ")} can be written to: ${failure instanceof Error ? failure.message : String(failure)}.`,
  );
}
