/** The processes around a workerd that is measured, and what it costs. */

import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { LoadOrder, LoadReport } from "./load.ts";

/** A TypeScript file run by this Node, read line by line. */
export class ScriptProcess {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(path: string) {
    this.#child = spawn(process.execPath, [path], { stdio: ["pipe", "pipe", "inherit"] });
    if (this.#child.stdout === null) throw new Error("no standard output");
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error("the process ended");
    return value;
  }

  async ask(order: LoadOrder): Promise<LoadReport> {
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`);
    return JSON.parse(await this.line()) as LoadReport;
  }

  stop(): void {
    this.#child.kill();
  }
}

/** Time on a CPU since its start, over all threads, in microseconds. */
export function cpuMicroseconds(pid: number): number {
  let nanoseconds = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      nanoseconds += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]);
    } catch {
      // The thread ended meanwhile.
    }
  }
  return nanoseconds / 1000;
}
