/**
 * nginx's leaky bucket (ngx_http_limit_req_module), to the letter: from idle, 1 + burst requests pass at once,
 * then `rate` a second; a refused request is not charged.
 *
 * The unit is nginx's: thousandths of a request, and whole milliseconds. Pure: the time is an argument.
 */

export interface Rate {
  /** Thousandths of a request that drain each second: 1000 for one request a second, 16 for one a minute (nginx rounds down). */
  readonly drainPerSecond: number;
  /** Thousandths of a request that may wait above the one that is being served. */
  readonly burst: number;
}

/** What is known of one client under one rate. Absent: idle. */
export interface Bucket {
  /** Thousandths of a request, as of `at`. */
  readonly excess: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

const ONE = 1000;
/** nginx counts the request itself before it looks at the floor of 0, so an idle client stands one request below it. */
const IDLE = -ONE;

/** nginx's `rate=Nr/s` with `burst=N × multiplier`. */
export function ratePerSecond(limit: number, burstMultiplier: number): Rate {
  return { drainPerSecond: limit * ONE, burst: limit * burstMultiplier * ONE };
}

/** nginx's `rate=Nr/m` with `burst=N × multiplier`; the integer division is nginx's. */
export function ratePerMinute(limit: number, burstMultiplier: number): Rate {
  return { drainPerSecond: Math.floor((limit * ONE) / 60), burst: limit * burstMultiplier * ONE };
}

/** What is left at `now`. A clock that goes back drains nothing. */
function level(bucket: Bucket | undefined, rate: Rate, now: number): number {
  if (bucket === undefined) return IDLE;
  const elapsed = Math.max(0, now - bucket.at);
  return Math.max(IDLE, bucket.excess - Math.floor((rate.drainPerSecond * elapsed) / 1000));
}

/** Nothing is left of what the client did, so it need not be remembered. */
export function isIdle(bucket: Bucket, rate: Rate, now: number): boolean {
  return level(bucket, rate, now) === IDLE;
}

/** How many requests would pass at `now`, one after the other without a pause. */
export function allowance(bucket: Bucket | undefined, rate: Rate, now: number): number {
  return Math.max(0, Math.floor((rate.burst - level(bucket, rate, now)) / ONE));
}

/** The bucket after `requests` passed; the caller has asked `allowance`. */
export function charge(bucket: Bucket | undefined, rate: Rate, requests: number, now: number): Bucket {
  return {
    excess: level(bucket, rate, now) + requests * ONE,
    at: bucket === undefined ? now : Math.max(now, bucket.at),
  };
}

/** The bucket after `requests` that were charged turn out not to have been made. */
export function refund(bucket: Bucket, requests: number): Bucket {
  return { excess: bucket.excess - requests * ONE, at: bucket.at };
}

/** Milliseconds until one more request may pass; 0 when one may now. */
export function waitMilliseconds(bucket: Bucket | undefined, rate: Rate, now: number): number {
  const tooMuch = level(bucket, rate, now) + ONE - rate.burst;
  if (tooMuch <= 0) return 0;
  if (rate.drainPerSecond === 0) return Number.MAX_SAFE_INTEGER;
  return Math.ceil((tooMuch * 1000) / rate.drainPerSecond);
}
