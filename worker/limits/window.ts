/**
 * A sliding window counted in two halves: what came in the window before weighs as much as the sliding window still
 * covers of it (what ingress-nginx's `global-rate-limit` did, by lua-resty-global-throttle).
 *
 * Pure: the time is an argument. Windows begin at multiples of their length, so that all who count agree on them.
 */

export interface WindowRate {
  readonly limit: number;
  readonly windowMilliseconds: number;
}

/** What one client did. Absent: nothing. */
export interface WindowUse {
  /** Requests in the window that began at `startedAt`, and in the one before. */
  readonly current: number;
  readonly previous: number;
  readonly startedAt: number;
}

function at(use: WindowUse | undefined, { windowMilliseconds }: WindowRate, now: number): WindowUse {
  const startedAt = Math.floor(now / windowMilliseconds) * windowMilliseconds;
  // A clock that goes back stays in the window that it has seen.
  if (use !== undefined && use.startedAt >= startedAt) return use;
  const isNext = use !== undefined && use.startedAt + windowMilliseconds === startedAt;
  return { current: 0, previous: isNext ? use.current : 0, startedAt };
}

/** Requests in the sliding window that ends at `now`, as far as two halves can tell. */
function estimate(
  { current, previous, startedAt }: WindowUse,
  { windowMilliseconds }: WindowRate,
  now: number,
): number {
  const covered = 1 - Math.max(0, now - startedAt) / windowMilliseconds;
  return current + previous * Math.max(0, covered);
}

export function windowAllowance(use: WindowUse | undefined, rate: WindowRate, now: number): number {
  return Math.max(0, Math.ceil(rate.limit - estimate(at(use, rate, now), rate, now)));
}

export function windowCharge(
  use: WindowUse | undefined,
  rate: WindowRate,
  requests: number,
  now: number,
): WindowUse {
  const counted = at(use, rate, now);
  return { ...counted, current: counted.current + requests };
}

export function windowRefund(use: WindowUse, requests: number): WindowUse {
  return { ...use, current: Math.max(0, use.current - requests) };
}

export function isWindowIdle(use: WindowUse, rate: WindowRate, now: number): boolean {
  const { current, previous } = at(use, rate, now);
  return current === 0 && previous === 0;
}

/** Milliseconds until one more request may pass; 0 when one may now. */
export function windowWait(use: WindowUse | undefined, rate: WindowRate, now: number): number {
  const counted = at(use, rate, now);
  if (windowAllowance(counted, rate, now) > 0) return 0;
  if (rate.limit <= 0) return Number.MAX_SAFE_INTEGER;
  const { windowMilliseconds: length, limit } = rate;
  /** When `weight` requests of the window before have shrunk below `room`. */
  const shrunk = (weight: number, room: number, from: number): number =>
    weight < room ? from : from + Math.floor(length * (1 - room / weight)) + 1;
  let end =
    counted.current < limit
      ? shrunk(counted.previous, limit - counted.current, counted.startedAt)
      : shrunk(counted.current, limit, counted.startedAt + length);
  // Fractions are rounded on the way; the estimate itself has the last word.
  while (windowAllowance(counted, rate, end) === 0) end++;
  while (end - 1 > now && windowAllowance(counted, rate, end - 1) > 0) end--;
  return end - now;
}
