/**
 * Keeps within what an account allows: calls in five minutes, and writes a day.
 *
 * The limit of calls belongs to the token's user and punishes: whoever passes it is locked out of the whole
 * API for five minutes. So we stop short of it and wait for room. The budget of writes is the operator's
 * money (or the free plan's 1 000 a day). Half of it may be spent as fast as changes come; the other half is
 * spread over what is left of the day, so that the edge grows slower towards the end and never stands still.
 */

import { KvError } from "./kv-error.ts";

export interface BudgetSettings {
  /** Cloudflare: 1 200, for everything that the token's user does. */
  readonly callsInFiveMinutes: number;
  /** Keys written or deleted in a day (UTC). Absent: no limit. */
  readonly writesADay?: number | undefined;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Told when something is held back, with a sentence. */
  readonly onHeldBack: (sentence: string) => void;
}

/** Writes of one day. */
export interface DaysWrites {
  /** Days since 1970, UTC. */
  readonly day: number;
  readonly count: number;
}

export interface Budget {
  /** Resolves once the call may leave. For `KvClientOptions.beforeCall`. */
  readonly beforeCall: (call: { readonly writes: number }) => Promise<void>;
  /** Throws a `KvError` when so many writes must wait. For `PublisherOptions.admit`. */
  readonly admit: (writes: number) => void;
  readonly writes: () => DaysWrites;
  /** Goes on from what another process had spent: a restart makes no new day. */
  readonly resume: (writes: DaysWrites) => void;
  readonly used: () => { readonly callsInFiveMinutes: number; readonly writesToday: number };
}

const WINDOW_MS = 5 * 60_000;
const DAY_MS = 24 * 60 * 60_000;

/** What of the calls we take: others may use the same user's tokens. */
const OUR_SHARE = 0.9;

export function createBudget(settings: BudgetSettings): Budget {
  const { writesADay, now, onHeldBack } = settings;
  const maxCalls = Math.max(1, Math.floor(settings.callsInFiveMinutes * OUR_SHARE));
  /** Times of the calls in the window, oldest first. */
  let calls: number[] = [];
  let day = Math.floor(now() / DAY_MS);
  let writesToday = 0;
  let lastAdmittedMs = Number.NEGATIVE_INFINITY;

  const turnDay = (): void => {
    const today = Math.floor(now() / DAY_MS);
    if (today === day) return;
    day = today;
    writesToday = 0;
  };
  const recentCalls = (): number => {
    const start = now() - WINDOW_MS;
    // A clock that was set back leaves calls in the future; they count until it is there again.
    calls = calls.filter((atMs) => atMs > start);
    return calls.length;
  };

  return {
    beforeCall: async ({ writes }) => {
      for (let told = false; recentCalls() >= maxCalls; told = true) {
        const waitMs = Math.max(1, (calls[0] ?? 0) + WINDOW_MS - now());
        if (!told)
          onHeldBack(
            `${maxCalls} KV calls were made in 5 minutes, the next one leaves in ${Math.ceil(waitMs / 1_000)} s.`,
          );
        await new Promise((resolve) => setTimeout(resolve, Math.min(waitMs, 1_000)));
      }
      turnDay();
      calls.push(now());
      writesToday += writes;
    },
    admit: (writes) => {
      turnDay();
      if (writesADay === undefined || writesToday + writes <= writesADay / 2) {
        lastAdmittedMs = now();
        return;
      }
      const nightMs = (day + 1) * DAY_MS;
      const left = writesADay - writesToday;
      const dueMs =
        left < writes ? nightMs : Math.max(lastAdmittedMs + ((nightMs - now()) * writes) / left, now());
      const waitMs = dueMs - now();
      if (waitMs <= 0) {
        lastAdmittedMs = now();
        return;
      }
      const sentence = `${writesToday} of ${writesADay} KV writes of this day are spent, so ${writes} more wait ${Math.ceil(waitMs / 1_000)} s.`;
      onHeldBack(sentence);
      throw new KvError("rate-limited", sentence, { retryAfterMs: waitMs });
    },
    writes: () => {
      turnDay();
      return { day, count: writesToday };
    },
    resume: (writes) => {
      turnDay();
      if (writes.day === day) writesToday = Math.max(writesToday, writes.count);
    },
    used: () => {
      turnDay();
      return { callsInFiveMinutes: recentCalls(), writesToday };
    },
  };
}
