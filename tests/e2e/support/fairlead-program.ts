/** A running `fairlead`, as a person starts it: the program in a process of its own, driven by files and signals. */

import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const PROGRAM = fileURLToPath(new URL("../../../bin/fairlead.mjs", import.meta.url));

export class FairleadProgram {
  readonly #child: ChildProcess;
  readonly #waiting = new Set<() => void>();
  /** Lines of standard output and standard error so far. */
  readonly stdout: string[] = [];
  readonly stderr: string[] = [];
  /** Exit code, or the signal's name; undefined while it runs. */
  ended: number | string | undefined;

  /** `environment` is added to that of the test. */
  constructor(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    this.#child = spawn(process.execPath, [PROGRAM, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...environment },
    });
    this.#collect(this.#child.stdout, this.stdout);
    this.#collect(this.#child.stderr, this.stderr);
    this.#child.on("close", (code, signal) => {
      this.ended = code ?? signal ?? "unknown";
      this.#wake();
    });
  }

  /** The first line from `from` on that matches, there already or still to come. */
  async waitFor(lines: readonly string[], pattern: RegExp, from = 0): Promise<string> {
    return lines[await this.indexOf(lines, pattern, from)] ?? "";
  }

  /** The number of that line. */
  async indexOf(lines: readonly string[], pattern: RegExp, from = 0): Promise<number> {
    for (let at = from; ; ) {
      for (; at < lines.length; at++) if (pattern.test(lines[at] ?? "")) return at;
      if (this.ended !== undefined) {
        throw new Error(
          `fairlead ended with ${this.ended} before ${pattern}:\n${this.stdout.join("\n")}\n${this.stderr.join("\n")}`,
        );
      }
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /** Sends a signal and waits for the end. */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<number | string> {
    if (this.ended === undefined) this.#child.kill(signal);
    return await this.exit();
  }

  /** Waits for the end, without asking for it. */
  async exit(): Promise<number | string> {
    while (this.ended === undefined) await new Promise<void>((resolve) => this.#waiting.add(resolve));
    return this.ended;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  #collect(stream: NodeJS.ReadableStream | null, lines: string[]): void {
    let rest = "";
    stream?.setEncoding("utf8").on("data", (text: string) => {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      lines.push(...parts);
      this.#wake();
    });
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }
}
