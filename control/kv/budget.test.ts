import { beforeEach, describe, expect, test, vi } from "vitest";
import { type Budget, createBudget } from "./budget.ts";
import { KvError } from "./kv-error.ts";

const NOON = Date.parse("2026-11-23T12:00:00Z");
const HOUR_MS = 3_600_000;

let nowMs: number;
let told: string[];

function budget(settings: { readonly calls?: number; readonly writes?: number }): Budget {
  return createBudget({
    callsInFiveMinutes: settings.calls ?? 1_200,
    writesADay: settings.writes,
    now: () => nowMs,
    onHeldBack: (sentence) => told.push(sentence),
  });
}

beforeEach(() => {
  nowMs = NOON;
  told = [];
});

/** Writes so many keys, as a run does. `false`: it was held back. */
async function write(one: Budget, keys: number): Promise<boolean> {
  try {
    one.admit(keys);
  } catch (error) {
    expect(error).toBeInstanceOf(KvError);
    return false;
  }
  await one.beforeCall({ writes: keys });
  return true;
}

describe("writes of a day", () => {
  test("are free without a budget", async () => {
    const one = budget({});
    for (let n = 0; n < 500; n++) expect(await write(one, 100)).toBe(true);
  });

  test("go as they come for the first half, and are spread over the rest of the day then", async () => {
    const one = budget({ writes: 1_000 });
    for (let n = 0; n < 250; n++) expect(await write(one, 2)).toBe(true);
    expect(await write(one, 2)).toBe(false);
    expect(told[0]).toContain("500 of 1000 KV writes");
    // Noon: 12 hours for 500 writes, so two are due every 172.8 s.
    nowMs += 172_000;
    expect(await write(one, 2)).toBe(false);
    nowMs += 1_000;
    expect(await write(one, 2)).toBe(true);
    expect(await write(one, 2)).toBe(false);
  });

  test("never pass the budget, however eager the clock, and the day begins anew at midnight", async () => {
    const one = budget({ writes: 1_000 });
    for (nowMs = NOON; nowMs < NOON + 12 * HOUR_MS - 1; nowMs += 20_000) await write(one, 2);
    nowMs = NOON + 12 * HOUR_MS - 1;
    expect(one.used().writesToday).toBeLessThanOrEqual(1_000);
    expect(one.used().writesToday).toBeGreaterThan(950);
    nowMs = NOON + 12 * HOUR_MS;
    expect(one.used().writesToday).toBe(0);
    expect(await write(one, 400)).toBe(true);
  });

  test("of a run larger than what is left wait for the next day", async () => {
    const one = budget({ writes: 100 });
    expect(await write(one, 50)).toBe(true);
    const error = await Promise.resolve()
      .then(() => one.admit(60))
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ kind: "rate-limited", retryAfterMs: 12 * HOUR_MS });
  });
});

test("calls stop short of the limit, wait for room, and say so once", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout"] });
  try {
    const one = budget({ calls: 100 });
    for (let n = 0; n < 90; n++) await one.beforeCall({ writes: 0 });
    let left = false;
    const waiting = one.beforeCall({ writes: 0 }).then(() => {
      left = true;
    });
    nowMs += 299_000;
    await vi.advanceTimersByTimeAsync(5_000);
    expect(left).toBe(false);
    nowMs += 1_000;
    await vi.advanceTimersByTimeAsync(1_000);
    await waiting;
    expect(told).toHaveLength(1);
    expect(one.used().callsInFiveMinutes).toBe(1);
  } finally {
    vi.useRealTimers();
  }
});
