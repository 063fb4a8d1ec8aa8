/**
 * Keeps the kernel at what is wanted: the loop at the heart of the agent.
 *
 * In: a backend, and a call for every change of what is wanted. Out: writes, one at a time. Not here: what is wanted, how
 * it is written.
 *
 * - It begins by reading the kernel back: rules that are there already are not written again.
 * - A refused write is followed by one resync at once (the kernel holds something else than was thought), then by
 *   resyncs with growing pauses. Whatever happens, the rules that are in force stay in force.
 * - Between writes it looks whether the kernel still holds what was written, and repairs what does not: also under a steady
 *   stream of changes, which wait for such an audit as for a write.
 */

import type { IpFamily } from "../cluster/model.ts";
import { type BackoffLimits, backoffMs, pause } from "../cluster/watch/backoff.ts";
import { type Audit, type Backend, OneFamilyError } from "./backends/backend.ts";
import { familyOfFailure } from "./kernel/transactions.ts";
import { Pace } from "./pace.ts";
import { Progress } from "./progress.ts";

export interface SyncEvent {
  readonly kind: "change" | "resync";
  readonly changes: number;
  readonly durationMs: number;
}

/** What a refused write means for each family. */
export interface AffectedFamilies {
  /** Those whose program has failed; the other one may not have had its turn. */
  readonly failed: readonly IpFamily[];
  /** Those that the kernel holds all rules of. */
  readonly synced: readonly IpFamily[];
}

export interface RuleSyncOptions {
  readonly backend: Pick<Backend, "write" | "resync" | "audit">;
  readonly pace?: Pace;
  readonly backoff?: BackoffLimits;
  /** Between two audits. */
  readonly auditPauseMs?: number;
  readonly onSynced?: (event: SyncEvent) => void;
  /**
   * One sentence: what was refused by which kind of write, what was found changed, or why an audit could not be made; the same
   * of several audits in a row is told once. `affected` where something was refused.
   */
  readonly onTrouble?: (
    message: string,
    kind: SyncEvent["kind"] | "drifted" | "unaudited",
    affected?: AffectedFamilies,
  ) => void;
}

const FAMILIES = ["IPv4", "IPv6"] as const satisfies readonly IpFamily[];
const AUDIT_PAUSE_MS = 2_000;
/** A quarter of a second first: a lock that somebody holds, a module that is being loaded. */
const BACKOFF: BackoffLimits = { firstMs: 250, longestMs: 30_000 };

export class RuleSync {
  readonly #options: RuleSyncOptions;
  readonly #pace: Pace;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  readonly #progress: Readonly<Record<IpFamily, Progress>> = { IPv4: new Progress(), IPv6: new Progress() };
  #auditedAtMs = performance.now();
  #auditTrouble: string | undefined;
  /** Waiting for a change: call it to go on. */
  #wake: (() => void) | undefined;

  constructor(options: RuleSyncOptions) {
    this.#options = options;
    this.#pace = options.pace ?? new Pace();
  }

  /** Begins with a resync. Call once, when what is wanted is known whole. */
  start(): void {
    this.#each((progress) => progress.queue());
    this.#running ??= this.#run();
  }

  /** What is wanted has changed. */
  changed(): void {
    this.#each((progress) => progress.queue());
    this.#wake?.();
  }

  /** How far behind the kernel is in this family. */
  progress(family: IpFamily): Progress {
    return this.#progress[family];
  }

  /** Ends after the write that is under way, and leaves the rules. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { backoff = BACKOFF, onTrouble } = this.#options;
    let kind: SyncEvent["kind"] = "resync";
    let failures = 0;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#sync(kind);
        failures = 0;
        kind = await this.#nextCause();
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        onTrouble?.(error instanceof Error ? error.message : String(error), kind, affected(error));
        if (kind === "resync") {
          await pause(backoffMs(failures++, backoff), this.#stop.signal);
        }
        kind = "resync";
      }
    }
  }

  async #sync(kind: SyncEvent["kind"]): Promise<void> {
    const { backend, onSynced } = this.#options;
    // Changes that come from here on are for the next turn.
    this.#each((progress) => progress.begin());
    const began = performance.now();
    try {
      const { changes } = kind === "resync" ? await backend.resync() : await backend.write();
      const ended = performance.now();
      this.#pace.written(ended, ended - began);
      this.#each((progress) => progress.succeed());
      // A resync has read the kernel back.
      if (kind === "resync") this.#auditedAtMs = ended;
      onSynced?.({ kind, changes, durationMs: ended - began });
    } catch (error) {
      const { synced } = affected(error);
      this.#each((progress, family) => (synced.includes(family) ? progress.succeed() : progress.fail()));
      throw error;
    }
  }

  /** Resolves when there is something to write: after a change and its pause, or when an audit has found something. */
  async #nextCause(): Promise<SyncEvent["kind"]> {
    const { onTrouble, auditPauseMs = AUDIT_PAUSE_MS } = this.#options;
    for (;;) {
      if (this.#stop.signal.aborted) return "change";
      const untilAuditMs = this.#auditedAtMs + auditPauseMs - performance.now();
      if (untilAuditMs > 0) {
        if (!this.#isQueued() && !(await this.#changeWithin(untilAuditMs))) continue;
        await pause(this.#pace.delayMs(performance.now()), this.#stop.signal);
        return "change";
      }
      const audit = await this.#audit();
      if (audit.kind === "intact") continue;
      this.#each((progress) => progress.queue());
      onTrouble?.(`${audit.what}; the rules are written anew.`, "drifted");
      return "resync";
    }
  }

  #each(act: (progress: Progress, family: IpFamily) => void): void {
    for (const family of FAMILIES) act(this.#progress[family], family);
  }

  #isQueued(): boolean {
    return FAMILIES.some((family) => this.#progress[family].isQueued);
  }

  /** An audit that cannot be made says nothing about the rules. */
  async #audit(): Promise<Audit> {
    const { backend, onTrouble } = this.#options;
    let trouble: string | undefined;
    let audit: Audit = { kind: "intact" };
    try {
      audit = await backend.audit();
    } catch (error) {
      trouble = error instanceof Error ? error.message : String(error);
    }
    if (trouble !== undefined && trouble !== this.#auditTrouble && !this.#stop.signal.aborted)
      onTrouble?.(trouble, "unaudited");
    this.#auditTrouble = trouble;
    this.#auditedAtMs = performance.now();
    return audit;
  }

  /** True: a change came, or the end, before the time was over. */
  #changeWithin(milliseconds: number): Promise<boolean> {
    return new Promise((resolve) => {
      const settle = (changed: boolean): void => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve(changed);
      };
      const timer = setTimeout(() => settle(false), milliseconds);
      this.#wake = () => settle(true);
    });
  }
}

function affected(error: unknown): AffectedFamilies {
  const one = error instanceof OneFamilyError ? error.family : familyOfFailure(error);
  return {
    failed: one === undefined ? FAMILIES : [one],
    synced: error instanceof OneFamilyError ? FAMILIES.filter((family) => family !== one) : [],
  };
}
