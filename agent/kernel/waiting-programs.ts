/**
 * Programs that have been started before their input is there: what a small change costs least.
 *
 * In: what `runCommand` takes. Out: what `runCommand` gives. Starting a program takes an agent of 200 MiB as long as the
 * program then takes to program an endpoint: the kernel copies the agent's page tables, and the linker looks for nine libraries.
 * So after each run the next one is started, and waits for its input.
 *
 * Only programs that look at nothing before they have read their input may wait: `nft -f -`, `iptables-restore`.
 *
 * An agent that dies must not leave half of a transaction (see `command.ts`). What fits into `MOST_BYTES` goes into the
 * socket by one system call, and the kernel takes it whole; until then the program has read nothing, and at the end of an
 * empty input it has nothing to do. Everything larger goes by way of a file, to a program that is started for it.
 */

import type { ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import type { Writable } from "node:stream";
import {
  type CommandOptions,
  type CommandResult,
  resultOf,
  runCommand,
  startProgram,
  throwIfStopped,
} from "./command.ts";

/** The kernel cuts what is written into a Unix socket into buffers, each taken whole; the smallest holds so much. */
const MOST_BYTES = 16 * 1024;

/** How programs are started: tests go `through` a network namespace, an agent has some `waiting`. */
export type StartOptions = Pick<CommandOptions, "through" | "signal"> & {
  readonly waiting?: WaitingPrograms | undefined;
};

/** As `runCommand`, by a program that waits where there is one. */
export function runWithInput(
  program: string,
  args: readonly string[],
  { waiting, ...options }: StartOptions & InputOptions,
): Promise<CommandResult> {
  return waiting === undefined ? runCommand(program, args, options) : waiting.run(program, args, options);
}

type InputOptions = CommandOptions & Required<Pick<CommandOptions, "input">>;

export class WaitingPrograms {
  /** By command line. */
  readonly #waiting = new Map<string, ChildProcess>();
  #underway = 0;
  #isClosed = false;

  /** As `runCommand`, by the program that waits if there is one. */
  async run(program: string, args: readonly string[], options: InputOptions): Promise<CommandResult> {
    const words = [...(options.through ?? []), program, ...args];
    this.#underway++;
    try {
      return await this.#run(words, program, args, options);
    } finally {
      this.#underway--;
      // Not between those of a large plan: they follow each other at once, and are not small.
      if (this.#underway === 0) setImmediate(() => this.#prepare(program, words));
    }
  }

  /** Those that wait end, and none waits any more. */
  close(): void {
    this.#isClosed = true;
    for (const child of this.#waiting.values()) child.stdin?.end();
    this.#waiting.clear();
  }

  async #run(
    words: readonly string[],
    program: string,
    args: readonly string[],
    options: InputOptions,
  ): Promise<CommandResult> {
    throwIfStopped(program, options);
    const pieces = options.input ?? [];
    const length = pieces.reduce((sum, piece) => sum + Buffer.byteLength(piece), 0);
    const child = length <= MOST_BYTES ? this.#take(words) : undefined;
    if (child === undefined) return runCommand(program, args, options);
    setReferenced(child, true);
    const result = resultOf(child, program, options);
    child.stdin?.end(
      Buffer.concat(pieces.map((piece) => (typeof piece === "string" ? Buffer.from(piece) : piece))),
    );
    return result;
  }

  #take(words: readonly string[]): ChildProcess | undefined {
    const key = words.join(" ");
    const child = this.#waiting.get(key);
    this.#waiting.delete(key);
    return child;
  }

  #prepare(program: string, words: readonly string[]): void {
    const key = words.join(" ");
    if (this.#isClosed || this.#underway > 0 || this.#waiting.has(key)) return;
    let child: ChildProcess;
    try {
      child = startProgram(program, words, ["pipe", "pipe", "pipe"]);
    } catch {
      // No room for another process now: the next run starts one of its own, or says so.
      return;
    }
    const forget = (): void => {
      if (this.#waiting.get(key) === child) this.#waiting.delete(key);
    };
    // Whoever could not be started, or was ended, waits no more; the next run starts one of its own.
    child.once("error", forget);
    child.once("exit", forget);
    // What it reads no more is told by how it ends.
    child.stdin?.on("error", () => {});
    setReferenced(child, false);
    this.#waiting.set(key, child);
  }
}

/** Whether the agent stays for its sake. */
function setReferenced(child: ChildProcess, isReferenced: boolean): void {
  const change = isReferenced ? "ref" : "unref";
  child[change]();
  for (const stream of [child.stdin, child.stdout, child.stderr] as readonly (Writable | Socket | null)[])
    (stream as Socket | null)?.[change]();
}
