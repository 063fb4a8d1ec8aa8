/**
 * An isolate's side of the limits: asks the ledger as seldom as exactness allows.
 *
 * In: a key, its limits. Out: may this request pass, and a function to call once it has ended. Between the two:
 * - a refused key is remembered for as long as nobody can pass it, so a flood is refused from memory;
 * - requests of one key that come while an ask is under way are asked for together;
 * - requests that the ledger lent are admitted at once, and what was not used is given back.
 * When the ledger cannot be reached the request passes, and `failures` counts it: a limiter that is down must
 * not take the site with it.
 *
 * Bounded: blocked keys by `MAX_BLOCKED`, other keys by the requests under way.
 */

import { type Answer, type Ask, HOLDER_MS, LEASE_MS, Ledger, type Limits } from "./ledger.ts";

/** Where a ledger is: in a Durable Object, or in this isolate. */
export interface LedgerAddress {
  /** The same for every address of the same ledger. */
  readonly id: string;
  take(ask: Ask): Promise<Answer> | Answer;
  settle(key: string, holder: string, unused: number): Promise<void> | void;
  release(key: string, holder: string, requests: number): Promise<void> | void;
  renew(holder: string): Promise<void> | void;
}

/** What a request offers: its work may go on after the answer (`ExecutionContext.waitUntil`). */
export interface RequestLife {
  waitUntil(work: Promise<unknown>): void;
}

/** Both ways of enforcement. */
export interface RequestLimiter {
  readonly counts: LimiterCounts;
  admit(key: string, limits: Limits, life: RequestLife): Promise<Admission> | Admission;
  renew(): Promise<void>;
}

export type Admission =
  | {
      readonly kind: "Admitted";
      readonly release: (life: RequestLife) => void;
      /** The ledger could not be reached. */
      readonly unlimited?: true;
      /** Requests that could still pass at once, as far as this isolate knows; absent where no rate limits them. */
      readonly remaining?: number;
    }
  | {
      readonly kind: "Refused";
      readonly by: "rate" | "connections";
      /** Milliseconds after which another try may pass. */
      readonly retryAfterMs: number;
    };

export interface LimiterCounts {
  /** Asks that went to a ledger. */
  asks: number;
  /** Requests refused from memory. */
  refusedFromMemory: number;
  /** Requests that passed because the ledger could not be reached. */
  failures: number;
}

const MAX_BLOCKED = 65_536;
/** An ask that takes longer is given up, and its requests pass. */
const ASK_TIMEOUT_MS = 2_000;
/** Slots that other isolates hold can come free at any time: so long a refusal is believed. */
const SLOTS_BELIEVED_MS = 10;
/** Asked for again within this time, a key is hot. */
const HOT_MS = 1_000;

interface Blocked {
  readonly until: number;
  readonly by: "rate" | "connections";
}

/** A key in use: requests wait, a lease runs, or it was asked for a moment ago. */
interface Entry {
  waiting: ((verdict: Verdict) => void)[];
  asking: boolean;
  leased: number;
  leaseUntil: number;
  /** Of the last answer. */
  remaining: number | undefined;
  askedAt: number;
  /** Releases so far: an answer that is older than a release does not block. */
  releases: number;
}

type Verdict = "pass" | "fail open" | Blocked;

export class Limiter implements RequestLimiter {
  readonly counts: LimiterCounts = { asks: 0, refusedFromMemory: 0, failures: 0 };
  readonly #holder: string;
  readonly #addressOf: (key: string) => LedgerAddress;
  readonly #now: () => number;
  readonly #blocked = new Map<string, Blocked>();
  readonly #entries = new Map<string, Entry>();
  readonly #open = new Map<
    string,
    { readonly address: LedgerAddress; requests: number; renewedAt: number }
  >();

  constructor(options: {
    /** Names this isolate among all that share a ledger. */
    readonly holder: string;
    readonly addressOf: (key: string) => LedgerAddress;
    readonly now?: () => number;
  }) {
    this.#holder = options.holder;
    this.#addressOf = options.addressOf;
    this.#now = options.now ?? Date.now;
  }

  async admit(key: string, limits: Limits, life: RequestLife): Promise<Admission> {
    const now = this.#now();
    const blocked = this.#blocked.get(key);
    if (blocked !== undefined) {
      if (blocked.until > now) {
        this.counts.refusedFromMemory++;
        return refusal(blocked, now);
      }
      this.#blocked.delete(key);
    }
    const entry = this.#entry(key, now);
    if (entry.leased > 0 && entry.leaseUntil > now) {
      entry.leased--;
      return this.#admission(key, limits, entry);
    }
    const verdict = await this.#join(key, limits, entry, life);
    if (verdict === "pass") return this.#admission(key, limits, entry);
    if (verdict === "fail open") return { kind: "Admitted", release: () => {}, unlimited: true };
    return refusal(verdict, this.#now());
  }

  /** Waits for the answer to a common ask; the first to come makes it. */
  #join(key: string, limits: Limits, entry: Entry, life: RequestLife): Promise<Verdict> {
    return new Promise((resolve) => {
      // The ask runs in the request that made it; if the platform ends that request, the others must not hang.
      const timer = setTimeout(() => {
        this.counts.failures++;
        entry.waiting = entry.waiting.filter((waiter) => waiter !== answer);
        resolve("fail open");
      }, ASK_TIMEOUT_MS);
      const answer = (verdict: Verdict) => {
        clearTimeout(timer);
        resolve(verdict);
      };
      entry.waiting.push(answer);
      if (!entry.asking) life.waitUntil(this.#ask(key, limits, entry, life));
    });
  }

  async #ask(key: string, limits: Limits, entry: Entry, life: RequestLife): Promise<void> {
    entry.asking = true;
    try {
      while (entry.waiting.length > 0) {
        const waiting = entry.waiting;
        entry.waiting = [];
        const now = this.#now();
        const unused = entry.leased;
        const releases = entry.releases;
        entry.leased = 0;
        this.counts.asks++;
        let answer: Answer;
        try {
          answer = await this.#addressOf(key).take({
            key,
            limits,
            requests: waiting.length,
            holder: this.#holder,
            unused,
            hot: entry.askedAt + HOT_MS > now,
          });
        } catch {
          this.counts.failures += waiting.length;
          for (const resolve of waiting) resolve("fail open");
          continue;
        }
        entry.askedAt = now;
        this.#answer(key, entry, waiting, answer, entry.releases === releases, life);
      }
    } finally {
      entry.asking = false;
      this.#forgetLater(key, entry, life);
    }
  }

  #answer(
    key: string,
    entry: Entry,
    waiting: readonly ((verdict: Verdict) => void)[],
    answer: Answer,
    isCurrent: boolean,
    life: RequestLife,
  ): void {
    const now = this.#now();
    entry.remaining = answer.remaining;
    for (const resolve of waiting.slice(0, answer.admitted)) resolve("pass");
    if (answer.leased > 0) {
      entry.leased = answer.leased;
      entry.leaseUntil = now + LEASE_MS;
      life.waitUntil(this.#settleLater(key, entry));
    }
    if (answer.admitted === waiting.length) return;
    const by = answer.refusedBy ?? "rate";
    // With every slot held here, nothing passes before a release; that lifts the block again.
    const heldHere = answer.holderHasAll && isCurrent;
    const until =
      now + (by === "rate" ? answer.blockedMs : heldHere ? HOLDER_MS : isCurrent ? SLOTS_BELIEVED_MS : 0);
    const blocked = { until, by };
    for (const resolve of waiting.slice(answer.admitted)) resolve(blocked);
    if (until <= now) return;
    this.#block(key, blocked);
    // Those who came meanwhile are refused by the same answer: nobody can pass before `until`.
    this.counts.refusedFromMemory += entry.waiting.length;
    for (const resolve of entry.waiting.splice(0)) resolve(blocked);
  }

  #block(key: string, blocked: Blocked): void {
    this.#blocked.delete(key);
    this.#blocked.set(key, blocked);
    if (this.#blocked.size <= MAX_BLOCKED) return;
    for (const oldest of this.#blocked.keys()) {
      this.#blocked.delete(oldest);
      break;
    }
  }

  async #settleLater(key: string, entry: Entry): Promise<void> {
    const until = entry.leaseUntil;
    await sleep(LEASE_MS);
    // Another ask has settled this lease already.
    if (entry.leaseUntil !== until || entry.asking) return;
    const unused = entry.leased;
    entry.leased = 0;
    try {
      await this.#addressOf(key).settle(key, this.#holder, unused);
    } catch {
      // The ledger counts the lease as used once it expires.
    }
  }

  #admission(key: string, limits: Limits, entry: Entry): Admission {
    const remaining = entry.remaining === undefined ? {} : { remaining: entry.remaining + entry.leased };
    if (limits.connections === undefined) return { ...PASS, ...remaining };
    const address = this.#addressOf(key);
    const open = this.#open.get(address.id) ?? { address, requests: 0, renewedAt: this.#now() };
    open.requests++;
    this.#open.set(address.id, open);
    let released = false;
    return {
      kind: "Admitted",
      ...remaining,
      release: (life) => {
        if (released) return;
        released = true;
        open.requests--;
        if (open.requests === 0) this.#open.delete(address.id);
        const entry = this.#entries.get(key);
        if (entry !== undefined) entry.releases++;
        if (this.#blocked.get(key)?.by === "connections") this.#blocked.delete(key);
        life.waitUntil(
          (async () => {
            try {
              await address.release(key, this.#holder, 1);
            } catch {
              // The ledger drops it with this holder, when the holder is silent for long.
            }
          })(),
        );
      },
    };
  }

  /** Tells the ledgers that requests in flight go on. Call it now and then while a request lasts; it is cheap. */
  async renew(): Promise<void> {
    const now = this.#now();
    for (const open of this.#open.values()) {
      if (open.renewedAt + HOLDER_MS / 3 > now) continue;
      open.renewedAt = now;
      try {
        await open.address.renew(this.#holder);
      } catch {
        // Tried again with the next call.
      }
    }
  }

  #entry(key: string, now: number): Entry {
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = {
        waiting: [],
        asking: false,
        leased: 0,
        leaseUntil: 0,
        remaining: undefined,
        askedAt: now - HOT_MS,
        releases: 0,
      };
      this.#entries.set(key, entry);
    }
    return entry;
  }

  #forgetLater(key: string, entry: Entry, life: RequestLife): void {
    const askedAt = entry.askedAt;
    life.waitUntil(
      sleep(HOT_MS).then(() => {
        if (entry.askedAt === askedAt && !entry.asking && this.#entries.get(key) === entry)
          this.#entries.delete(key);
      }),
    );
  }
}

/** `local` enforcement: each isolate counts for itself, without a way to anywhere. */
export class LocalLimiter implements RequestLimiter {
  readonly counts: LimiterCounts = { asks: 0, refusedFromMemory: 0, failures: 0 };
  readonly #ledger = new Ledger();
  readonly #now: () => number;

  constructor(options: { readonly now?: () => number } = {}) {
    this.#now = options.now ?? Date.now;
  }

  admit(key: string, limits: Limits): Admission {
    const now = this.#now();
    const answer = this.#ledger.take({ key, limits, requests: 1, holder: HERE, unused: 0, hot: false }, now);
    if (answer.admitted === 0)
      return { kind: "Refused", by: answer.refusedBy ?? "rate", retryAfterMs: answer.blockedMs };
    const remaining = answer.remaining === undefined ? {} : { remaining: answer.remaining };
    if (limits.connections === undefined) return { ...PASS, ...remaining };
    let released = false;
    return {
      kind: "Admitted",
      ...remaining,
      release: () => {
        if (released) return;
        released = true;
        this.#ledger.release(key, HERE, 1, this.#now());
      },
    };
  }

  async renew(): Promise<void> {
    this.#ledger.renew(HERE, this.#now());
  }
}

const HERE = "here";
const PASS: Admission = { kind: "Admitted", release: () => {} };

function refusal(blocked: Blocked, now: number): Admission {
  return { kind: "Refused", by: blocked.by, retryAfterMs: Math.max(0, blocked.until - now) };
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
