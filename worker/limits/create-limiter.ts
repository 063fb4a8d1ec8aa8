/** The limiter of this isolate: by Durable Objects where they are bound and `global` is asked for, else by itself. */

import type { LimitEnforcementPolicy } from "../../edge-config/features/rate-limit.ts";
import {
  Limiter as GlobalLimiter,
  type LedgerAddress,
  LocalLimiter,
  type RequestLimiter,
} from "./limiter.ts";
import type { Limiter as LimiterObject } from "./limiter-object.ts";

/** Objects over which keys are spread: each may see about 1 000 requests a second (Cloudflare's soft limit). */
const SHARDS = 256;

export function createLimiter(
  objects: DurableObjectNamespace<LimiterObject> | undefined,
  { mode }: LimitEnforcementPolicy,
): RequestLimiter {
  if (objects === undefined || mode === "local") return new LocalLimiter();
  return new GlobalLimiter({
    holder: crypto.randomUUID(),
    addressOf: (key) => addressOf(objects, `shard-${fnv1a(key) % SHARDS}`),
  });
}

/** A stub for each call: one may not outlive the request that made it. */
function addressOf(objects: DurableObjectNamespace<LimiterObject>, id: string): LedgerAddress {
  const stub = () => objects.getByName(id);
  return {
    id,
    take: (ask) => stub().take(ask),
    settle: (key, holder, unused) => stub().settle(key, holder, unused),
    release: (key, holder, requests) => stub().release(key, holder, requests),
    renew: (holder) => stub().renew(holder),
  };
}

/** FNV-1a, 32 bits: spreads keys; nothing depends on it being hard to guess. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  return hash >>> 0;
}
