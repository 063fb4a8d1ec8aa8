/**
 * The Durable Object in which one ledger lives: what `global` limits are exact by.
 *
 * Keys are spread over `LIMITER_SHARDS` objects by a hash (`limiter.ts`), so that no object sees more than its
 * share. The answer to a refusal that leases of other isolates may undo is put off here until they settle.
 * Rates that take longer to drain than an object may sleep are saved by an alarm, a few seconds late at most:
 * waiting for the disk before each answer would cost every visitor what only a crash would lose.
 */

import { DurableObject } from "cloudflare:workers";
import { type Answer, type Ask, Ledger, type SavedAccount } from "./ledger.ts";

/** An idle object may be evicted after about ten seconds; what drains sooner need not be saved. */
const SAVE_WHAT_LASTS_MS = 5_000;
const SAVE_EVERY_MS = 5_000;
/** Accounts in one stored value; a value of a SQLite-backed object may have 2 MB. */
const ACCOUNTS_PER_ROW = 4_000;

export class Limiter extends DurableObject {
  readonly #ledger = new Ledger();
  /** By key: who waits for leases to settle. */
  readonly #waiting = new Map<string, Set<() => void>>();
  #alarmIsSet = false;

  constructor(state: DurableObjectState, env: unknown) {
    super(state, env as never);
    state.blockConcurrencyWhile(async () => {
      for (const accounts of (
        await state.storage.list<readonly SavedAccount[]>({ prefix: "accounts/" })
      ).values()) {
        this.#ledger.restore(accounts);
      }
    });
  }

  /** Asks for the holder's waiting requests; settles within the life of a lease. */
  async take(ask: Ask): Promise<Answer> {
    let current = ask;
    for (;;) {
      const now = Date.now();
      const answer = this.#ledger.take(current, now);
      if (answer.unsettledUntil === undefined) {
        await this.#saveLater();
        if (current === ask) return answer;
        return { ...answer, admitted: answer.admitted + ask.requests - current.requests };
      }
      current = { ...current, requests: current.requests - answer.admitted, unused: 0 };
      await this.#settled(ask.key, answer.unsettledUntil - now);
    }
  }

  settle(key: string, holder: string, unused: number): void {
    this.#ledger.settle(key, holder, unused, Date.now());
    for (const wake of this.#waiting.get(key) ?? []) wake();
  }

  release(key: string, holder: string, requests: number): void {
    this.#ledger.release(key, holder, requests, Date.now());
  }

  renew(holder: string): void {
    this.#ledger.renew(holder, Date.now());
  }

  override async alarm(): Promise<void> {
    this.#alarmIsSet = false;
    const accounts = this.#ledger.save(Date.now(), SAVE_WHAT_LASTS_MS);
    const rows = new Map<string, readonly SavedAccount[]>();
    for (let at = 0; at < accounts.length; at += ACCOUNTS_PER_ROW) {
      rows.set(`accounts/${at / ACCOUNTS_PER_ROW}`, accounts.slice(at, at + ACCOUNTS_PER_ROW));
    }
    const stale = [...(await this.ctx.storage.list({ prefix: "accounts/" })).keys()].filter(
      (key) => !rows.has(key),
    );
    if (stale.length > 0) await this.ctx.storage.delete(stale);
    for (const [key, row] of rows) await this.ctx.storage.put(key, row);
    // Once more while something lasts: what has drained by then is removed from the disk too.
    if (rows.size > 0) await this.#saveLater();
  }

  async #saveLater(): Promise<void> {
    if (this.#alarmIsSet) return;
    this.#alarmIsSet = true;
    await this.ctx.storage.setAlarm(Date.now() + SAVE_EVERY_MS, { allowUnconfirmed: true });
  }

  /** Until somebody settles a lease of `key`, or `milliseconds` are over. */
  async #settled(key: string, milliseconds: number): Promise<void> {
    const waiting = this.#waiting.get(key) ?? new Set();
    this.#waiting.set(key, waiting);
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(1, milliseconds));
      waiting.add(done);
    });
    if (waiting.size === 0) this.#waiting.delete(key);
  }
}
