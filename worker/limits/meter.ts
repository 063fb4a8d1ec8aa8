/** The two ways of counting, behind one set of questions: what the ledger asks. */

import {
  type Bucket,
  allowance as bucketAllowance,
  charge as bucketCharge,
  refund as bucketRefund,
  waitMilliseconds as bucketWait,
  isIdle as isBucketIdle,
  type Rate as LeakyRate,
} from "./bucket.ts";
import {
  isWindowIdle,
  type WindowRate,
  type WindowUse,
  windowAllowance,
  windowCharge,
  windowRefund,
  windowWait,
} from "./window.ts";

/** nginx's leaky bucket, or a sliding window. */
export type Rate = LeakyRate | WindowRate;
export type Use = Bucket | WindowUse;

const isWindowRate = (rate: Rate): rate is WindowRate => "windowMilliseconds" in rate;
const isWindowUse = (use: Use): use is WindowUse => "startedAt" in use;

/** A use that was counted the other way, under a limit that has changed since, counts for nothing. */
function bucketOf(use: Use | undefined): Bucket | undefined {
  return use === undefined || isWindowUse(use) ? undefined : use;
}

function windowOf(use: Use | undefined): WindowUse | undefined {
  return use !== undefined && isWindowUse(use) ? use : undefined;
}

/** How many requests would pass at `now`. */
export function allowance(use: Use | undefined, rate: Rate, now: number): number {
  return isWindowRate(rate)
    ? windowAllowance(windowOf(use), rate, now)
    : bucketAllowance(bucketOf(use), rate, now);
}

export function charge(use: Use | undefined, rate: Rate, requests: number, now: number): Use {
  return isWindowRate(rate)
    ? windowCharge(windowOf(use), rate, requests, now)
    : bucketCharge(bucketOf(use), rate, requests, now);
}

export function refund(use: Use, requests: number): Use {
  return isWindowUse(use) ? windowRefund(use, requests) : bucketRefund(use, requests);
}

export function isIdle(use: Use, rate: Rate, now: number): boolean {
  if (isWindowRate(rate) !== isWindowUse(use)) return true;
  return isWindowRate(rate)
    ? isWindowIdle(use as WindowUse, rate, now)
    : isBucketIdle(use as Bucket, rate, now);
}

/** Milliseconds until one more request may pass; 0 when one may now. */
export function waitMilliseconds(use: Use | undefined, rate: Rate, now: number): number {
  return isWindowRate(rate) ? windowWait(windowOf(use), rate, now) : bucketWait(bucketOf(use), rate, now);
}
