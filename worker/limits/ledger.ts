/**
 * The one account of what clients have used of their limits: rates and requests in flight.
 *
 * In: asks, each for one key (Ingress and client), with the time. Out: how many requests pass, and for how long
 * a refusal holds. A Durable Object keeps one ledger for every isolate that shares it (`limiter-object.ts`); under
 * `local` enforcement each isolate keeps its own. Pure but for its own maps: no clock, no I/O.
 *
 * Leases. A key that an isolate asks for again and again is given a few requests ahead, so that not each one pays
 * the way to the ledger. What is lent is charged at once, so that all isolates together never admit more than the
 * limit; what an isolate did not use comes back when it settles. A refusal while requests are lent elsewhere might
 * be wrong, so it says `unsettledUntil`: the caller asks again once those leases are settled or expired. Thus the
 * count is exact in both directions.
 *
 * Bounded: `MAX_KEYS` clients; beyond it the one that was seen longest ago is forgotten.
 */

import { allowance, charge, isIdle, type Rate, refund, type Use, waitMilliseconds } from "./meter.ts";

export interface Limits {
  /** All must have room; a refusal by one charges none (as nginx). */
  readonly rates: readonly Rate[];
  /** Requests in flight at once. */
  readonly connections?: number;
}

export interface Ask {
  readonly key: string;
  readonly limits: Limits;
  /** Requests that wait for the answer. */
  readonly requests: number;
  /** The isolate that asks: leases and requests in flight are kept by it, so that a dead one's can be dropped. */
  readonly holder: string;
  /** Of this holder's last lease of this key, what it did not use. */
  readonly unused: number;
  /** This holder asked for the same key a moment ago, so a lease is worth its price. */
  readonly hot: boolean;
}

export interface Answer {
  /** Of the requests asked for, so many pass. */
  readonly admitted: number;
  /** Why the others do not. */
  readonly refusedBy?: "rate" | "connections";
  /** Milliseconds in which no request of this key can pass, whoever asks. */
  readonly blockedMs: number;
  /** The holder has every slot in flight itself: nothing can pass before it releases one. */
  readonly holderHasAll: boolean;
  /** Requests that could still pass now, by rate; absent where no rate limits them. */
  readonly remaining?: number;
  /** Further requests that the holder may admit itself within `LEASE_MS`, each as one of the rate and one in flight. */
  readonly leased: number;
  /** Present on a refusal that leases of other holders may yet undo: ask again then, or when they settle. */
  readonly unsettledUntil?: number;
}

/** How long a lease may be used. Also the longest that a refusal can be put off, so it is short. */
export const LEASE_MS = 250;
/** A holder that neither asks nor renews for so long is dead, and its requests in flight are over. */
export const HOLDER_MS = 30_000;
export const MAX_KEYS = 262_144;
/** A quarter of what is left may be lent at once: leases shrink as the limit comes near, down to none. */
const LENT_SHARE = 4;

interface Lease {
  readonly count: number;
  readonly until: number;
}

interface Account {
  readonly uses: (Use | undefined)[];
  /** By holder. */
  readonly inFlight: Map<string, number>;
  readonly leases: Map<string, Lease>;
  /** The limits of the last ask, to know when the account is idle. */
  limits: Limits;
}

export class Ledger {
  readonly #accounts = new Map<string, Account>();
  readonly #holders = new Map<string, number>();
  readonly #maxKeys: number;

  constructor(options: { readonly maxKeys?: number } = {}) {
    this.#maxKeys = options.maxKeys ?? MAX_KEYS;
  }

  /** Clients that are remembered. */
  get size(): number {
    return this.#accounts.size;
  }

  take(ask: Ask, now: number): Answer {
    this.renew(ask.holder, now);
    const account = this.#account(ask.key, ask.limits, now);
    this.#settle(account, ask.holder, ask.unused);
    this.#expireLeases(account, now);

    const rateRoom = roomOfRates(account, now);
    const slotRoom = this.#roomOfSlots(account);
    // A request counts against the rate before it asks for a slot: one that the slots refuse has used its token.
    const passRates = Math.min(ask.requests, rateRoom);
    const admitted = Math.min(passRates, slotRoom);
    const refused = ask.requests - admitted;
    const lentElsewhere = refused > 0 ? latestLease(account, ask.holder) : undefined;
    if (lentElsewhere !== undefined) {
      // Admit what surely passes, leave the others uncharged: they will ask again.
      this.#book(account, ask.holder, admitted, admitted, now);
      return { admitted, blockedMs: 0, holderHasAll: false, leased: 0, unsettledUntil: lentElsewhere };
    }
    this.#book(account, ask.holder, passRates, admitted, now);
    if (refused > 0) {
      const byRate = passRates < ask.requests;
      return {
        admitted,
        refusedBy: byRate ? "rate" : "connections",
        blockedMs: byRate ? blockedMilliseconds(account, now) : 0,
        holderHasAll: !byRate && account.inFlight.get(ask.holder) === ask.limits.connections,
        leased: 0,
      };
    }
    const leased = ask.hot ? Math.floor(Math.min(rateRoom - passRates, slotRoom - admitted) / LENT_SHARE) : 0;
    if (leased > 0) {
      this.#book(account, ask.holder, leased, leased, now);
      account.leases.set(ask.holder, { count: leased, until: now + LEASE_MS });
    }
    const remaining = rateRoom - passRates - leased;
    return {
      admitted,
      blockedMs: 0,
      holderHasAll: false,
      leased,
      ...(Number.isFinite(remaining) ? { remaining } : {}),
    };
  }

  /** A holder's lease of `key` is over; `unused` of it was not needed. */
  settle(key: string, holder: string, unused: number, now: number): void {
    const account = this.#accounts.get(key);
    if (account === undefined) return;
    this.#settle(account, holder, unused);
    this.#forgetIfIdle(key, account, now);
  }

  /** Requests in flight of one holder have ended. */
  release(key: string, holder: string, requests: number, now: number): void {
    const account = this.#accounts.get(key);
    if (account === undefined) return;
    countDown(account.inFlight, holder, requests);
    this.#forgetIfIdle(key, account, now);
  }

  /** The holder lives: its requests in flight go on. */
  renew(holder: string, now: number): void {
    // Re-inserted, so that the map stays in the order of last signs of life and the dead stand in front.
    this.#holders.delete(holder);
    this.#holders.set(holder, now);
    for (const [other, seenAt] of this.#holders) {
      if (seenAt + HOLDER_MS > now) break;
      this.#holders.delete(other);
    }
  }

  /** What must survive a restart at `now`: rates that take longer than `longerThanMs` to drain. Requests in flight do not. */
  save(now: number, longerThanMs: number): readonly SavedAccount[] {
    const saved: SavedAccount[] = [];
    for (const [key, account] of this.#accounts) {
      const lasts = account.limits.rates.some((rate, index) => {
        const use = account.uses[index];
        return use !== undefined && !isIdle(use, rate, now + longerThanMs);
      });
      if (lasts)
        saved.push({
          key,
          rates: account.limits.rates,
          uses: account.uses.map((use) => use ?? null),
        });
    }
    return saved;
  }

  restore(accounts: readonly SavedAccount[]): void {
    for (const { key, rates, uses } of accounts) {
      this.#accounts.set(key, {
        uses: uses.map((use) => use ?? undefined),
        inFlight: new Map(),
        leases: new Map(),
        limits: { rates },
      });
    }
  }

  #account(key: string, limits: Limits, now: number): Account {
    let account = this.#accounts.get(key);
    if (account === undefined) {
      this.#makeRoom(now);
      account = { uses: [], inFlight: new Map(), leases: new Map(), limits };
    } else {
      // Re-inserted, so that the map stays in the order in which keys were last asked for.
      this.#accounts.delete(key);
      account.limits = limits;
    }
    this.#accounts.set(key, account);
    return account;
  }

  /** Forgets a few idle accounts with every new one, so that nobody waits for a sweep; then the oldest if need be. */
  #makeRoom(now: number): void {
    let looked = 0;
    for (const [key, account] of this.#accounts) {
      if (++looked > 4) break;
      this.#forgetIfIdle(key, account, now);
    }
    if (this.#accounts.size < this.#maxKeys) return;
    for (const key of this.#accounts.keys()) {
      this.#accounts.delete(key);
      break;
    }
  }

  #forgetIfIdle(key: string, account: Account, now: number): void {
    if (account.inFlight.size > 0 || account.leases.size > 0) return;
    const busy = account.limits.rates.some((rate, index) => {
      const use = account.uses[index];
      return use !== undefined && !isIdle(use, rate, now);
    });
    if (!busy) this.#accounts.delete(key);
  }

  #roomOfSlots(account: Account): number {
    const limit = account.limits.connections;
    if (limit === undefined) return Number.POSITIVE_INFINITY;
    let used = 0;
    for (const [holder, count] of account.inFlight) {
      if (!this.#holders.has(holder)) {
        account.inFlight.delete(holder);
        account.leases.delete(holder);
      } else used += count;
    }
    return Math.max(0, limit - used);
  }

  #book(account: Account, holder: string, tokens: number, slots: number, now: number): void {
    if (tokens > 0) {
      account.limits.rates.forEach((rate, index) => {
        account.uses[index] = charge(account.uses[index], rate, tokens, now);
      });
    }
    if (slots > 0 && account.limits.connections !== undefined) {
      account.inFlight.set(holder, (account.inFlight.get(holder) ?? 0) + slots);
    }
  }

  #settle(account: Account, holder: string, unused: number): void {
    const lease = account.leases.get(holder);
    if (lease === undefined) return;
    account.leases.delete(holder);
    const back = Math.min(unused, lease.count);
    if (back === 0) return;
    account.uses.forEach((use, index) => {
      if (use !== undefined) account.uses[index] = refund(use, back);
    });
    countDown(account.inFlight, holder, back);
  }

  /** A lease that nobody settled in time counts as used: its holder may have admitted every one of it. */
  #expireLeases(account: Account, now: number): void {
    for (const [holder, lease] of account.leases) {
      // As long again for the message that settles it to arrive.
      if (lease.until + LEASE_MS <= now) account.leases.delete(holder);
    }
  }
}

/** One account as a Durable Object stores it. */
export interface SavedAccount {
  readonly key: string;
  readonly rates: readonly Rate[];
  readonly uses: readonly (Use | null)[];
}

function roomOfRates(account: Account, now: number): number {
  return account.limits.rates.reduce(
    (room, rate, index) => Math.min(room, allowance(account.uses[index], rate, now)),
    Number.POSITIVE_INFINITY,
  );
}

function blockedMilliseconds(account: Account, now: number): number {
  return account.limits.rates.reduce(
    (longest, rate, index) => Math.max(longest, waitMilliseconds(account.uses[index], rate, now)),
    0,
  );
}

function latestLease(account: Account, except: string): number | undefined {
  let latest: number | undefined;
  for (const [holder, lease] of account.leases) {
    if (holder !== except) latest = Math.max(latest ?? 0, lease.until + LEASE_MS);
  }
  return latest;
}

function countDown(counts: Map<string, number>, key: string, by: number): void {
  const left = (counts.get(key) ?? 0) - by;
  if (left > 0) counts.set(key, left);
  else counts.delete(key);
}
