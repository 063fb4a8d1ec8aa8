/**
 * Runs one side rule set beside the loop of the Services: at a change, and every few seconds to see whether it still stands
 * and whether what it is made of has changed. A failure is told once and tried again; the old rules stay until then.
 */

import { pause } from "../../cluster/watch/backoff.ts";
import type { KernelOptions } from "../kernel/transactions.ts";
import { type SideRulesByFamily, SideRulesKeeper, type SideRulesKeeperOptions } from "./keeper.ts";

export interface SideRulesSource {
  /** What is wanted now, and sentences for the operator. Rejects with one sentence: what stands shall stay. */
  readonly wanted: () => Promise<{ readonly rules: SideRulesByFamily; readonly notes: readonly string[] }>;
  /** What was wanted last is about to be in the kernel. */
  readonly onWrite?: () => void;
  /** It is there, and had to be written or not. */
  readonly onWritten?: (wrote: boolean) => void;
}

export interface SideRulesRunnerOptions extends SideRulesKeeperOptions, SideRulesSource {
  readonly say: (line: string) => void;
  readonly kernel?: KernelOptions;
}

const LOOK_MS = 10_000;

export class SideRulesRunner {
  readonly #options: SideRulesRunnerOptions;
  readonly #keeper: SideRulesKeeper;
  readonly #stop = new AbortController();
  #told = new Set<string>();
  #running: Promise<void> | undefined;
  #isStale = false;
  #wake: AbortController | undefined;

  constructor(options: SideRulesRunnerOptions) {
    this.#options = options;
    this.#keeper = new SideRulesKeeper(options);
  }

  /** Writes now; rejects with one sentence. */
  async once(): Promise<void> {
    await this.#want();
    this.#options.onWrite?.();
    const wrote = await this.#keeper.write();
    this.#options.onWritten?.(wrote);
  }

  /** What `once` would apply. */
  async plan(): ReturnType<SideRulesKeeper["plan"]> {
    await this.#want();
    return this.#keeper.plan();
  }

  /** Returns at once. Call again whenever something may have changed. */
  changed(): void {
    this.#isStale = true;
    this.#wake?.abort();
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #want(): Promise<void> {
    const { rules, notes } = await this.#options.wanted();
    this.#keeper.want(rules);
    this.#tell(notes);
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.#isStale = false;
      await this.once().catch((error: unknown) =>
        this.#tell([error instanceof Error ? error.message : String(error)]),
      );
      if (this.#isStale) continue;
      this.#wake = new AbortController();
      await pause(LOOK_MS, AbortSignal.any([this.#stop.signal, this.#wake.signal]));
      this.#wake = undefined;
    }
  }

  /** Each sentence once, as long as it is true. */
  #tell(notes: readonly string[]): void {
    for (const note of notes) if (!this.#told.has(note)) this.#options.say(note);
    this.#told = new Set(notes);
  }
}
