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
import { readFileSync } from "node:fs";
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

/**
 * The kernel takes so much by one write into a Unix socket, whatever its buffers are, if a socket holds four times that; where
 * `wmem_default` was made smaller, less goes.
 */
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
  /** Those that ran since none was underway. */
  readonly #wanted = new Map<string, { readonly program: string; readonly words: readonly string[] }>();
  readonly #mostBytes: number;
  #underway = 0;
  #isClosed = false;

  /** `socketBytes`: what a new socket holds. */
  constructor(socketBytes: number = defaultSocketBytes()) {
    this.#mostBytes = Math.min(MOST_BYTES, socketBytes / 4);
  }

  /** As `runCommand`, by the program that waits if there is one. */
  async run(program: string, args: readonly string[], options: InputOptions): Promise<CommandResult> {
    const words = [...(options.through ?? []), program, ...args];
    this.#wanted.set(words.join(" "), { program, words });
    this.#underway++;
    try {
      return await this.#run(words, program, args, options);
    } finally {
      this.#underway--;
      // Not between those of a large plan: they follow each other at once, and are not small.
      if (this.#underway === 0) setImmediate(() => this.#prepareWanted());
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
    const child = length <= this.#mostBytes ? this.#take(words) : undefined;
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

  #prepareWanted(): void {
    if (this.#isClosed || this.#underway > 0) return;
    for (const [key, { program, words }] of this.#wanted)
      if (!this.#waiting.has(key)) this.#prepare(key, program, words);
    this.#wanted.clear();
  }

  #prepare(key: string, program: string, words: readonly string[]): void {
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

function defaultSocketBytes(): number {
  try {
    return Number(readFileSync("/proc/sys/net/core/wmem_default", "utf8"));
  } catch {
    return 0;
  }
}

/** Whether the agent stays for its sake. */
function setReferenced(child: ChildProcess, isReferenced: boolean): void {
  const change = isReferenced ? "ref" : "unref";
  child[change]();
  for (const stream of [child.stdin, child.stdout, child.stderr] as readonly (Writable | Socket | null)[])
    (stream as Socket | null)?.[change]();
}
