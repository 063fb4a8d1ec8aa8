/**
 * Leader election by a Kubernetes Lease (coordination.k8s.io/v1), with the rules of client-go's leaderelection: whoever
 * holds the Lease renews it; when it was not renewed for its whole duration, as seen on one's own clock, another takes it.
 * Updates carry the resource version, so of two that take it at once one fails.
 *
 * Each term has an epoch. It is written into the Lease, and is higher than the one there and not lower than the present
 * time in milliseconds; so it also grows when somebody deletes the Lease, which would let a plain counter begin again.
 *
 * In: a connection, a name for this replica. Out: terms (`leadership.ts`). On `stop` the Lease is given back, so the
 * next leader need not wait.
 */

import type { KubernetesApi } from "../../cluster/watch/api.ts";
import { ApiError, describeError, isConflict, isNotFound } from "../../cluster/watch/api-error.ts";
import { pause } from "../../cluster/watch/backoff.ts";
import type { Leadership, Term } from "../leadership.ts";
import type { Log } from "../log.ts";
import { createNewest } from "../newest.ts";

export interface LeaseSettings {
  readonly namespace: string;
  readonly name: string;
  /** Of this replica; unique. */
  readonly identity: string;
  /** How long nobody else takes the Lease after its last renewal. */
  readonly durationMs: number;
  /** A leader that could not renew for so long stops leading; shorter than `durationMs`. */
  readonly renewDeadlineMs: number;
  /** Between two attempts to renew or to take it. */
  readonly retryMs: number;
}

export type LeaseTimes = Pick<LeaseSettings, "durationMs" | "renewDeadlineMs" | "retryMs">;

/** client-go's defaults. */
export const LEASE_TIMES: LeaseTimes = { durationMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2_000 };

const EPOCH_ANNOTATION = "fairlead.dev/epoch";

export interface LeaseElection extends Leadership {
  /** Resolves once this replica holds nothing any more. */
  readonly stop: () => Promise<void>;
}

interface Lease {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly resourceVersion?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

export function createLeaseElection(api: KubernetesApi, settings: LeaseSettings, log: Log): LeaseElection {
  const { namespace, name, identity, durationMs, renewDeadlineMs, retryMs } = settings;
  const collection = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
  const path = `${collection}/${name}`;
  const newest = createNewest<Term>();
  const stopping = new AbortController();
  /** What was last read or written, and when it was first seen so, on the monotonic clock. */
  let seen: { readonly lease: Lease; readonly version: string; readonly sinceMs: number } | undefined;
  let held: { readonly epoch: number; renewedMs: number } | undefined;
  let lastProblem: string | undefined;

  const observe = (lease: Lease): void => {
    const version = lease.metadata.resourceVersion ?? "";
    if (seen?.version !== version) seen = { lease, version, sinceMs: performance.now() };
  };
  const call = (method: "GET" | "POST" | "PUT", body?: Lease): Promise<unknown> =>
    api.request({
      method,
      path: method === "POST" ? collection : path,
      body,
      // A renewal that hangs must leave time for another one.
      signal: AbortSignal.timeout(Math.max(1_000, renewDeadlineMs / 2)),
    });
  const write = async (spec: Lease["spec"], epoch: number): Promise<void> => {
    const before = seen?.lease.metadata;
    const lease: Lease = {
      metadata: {
        ...(before ?? { name, namespace }),
        annotations: { ...before?.annotations, [EPOCH_ANNOTATION]: String(epoch) },
      },
      spec: {
        ...seen?.lease.spec,
        leaseDurationSeconds: Math.max(1, Math.ceil(durationMs / 1_000)),
        renewTime: microTime(),
        ...spec,
      },
    };
    const body = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", ...lease };
    observe((await call(before === undefined ? "POST" : "PUT", body)) as Lease);
  };
  const read = async (): Promise<void> => {
    try {
      observe((await call("GET")) as Lease);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      seen = undefined;
    }
  };

  const take = async (): Promise<void> => {
    await read();
    if (seen?.lease.spec.holderIdentity) {
      const { holderIdentity, leaseDurationSeconds } = seen.lease.spec;
      const isFree = performance.now() - seen.sinceMs > (leaseDurationSeconds ?? durationMs / 1_000) * 1_000;
      // A Lease in our own name is one of an earlier life.
      if (holderIdentity !== identity && !isFree) return;
    }
    const before = Number(seen?.lease.metadata.annotations?.[EPOCH_ANNOTATION] ?? 0);
    const epoch = Math.max(Number.isSafeInteger(before) ? before + 1 : 0, Date.now());
    const askedMs = performance.now();
    await write(
      {
        holderIdentity: identity,
        acquireTime: microTime(),
        leaseTransitions: (seen?.lease.spec.leaseTransitions ?? -1) + 1,
      },
      epoch,
    );
    held = { epoch, renewedMs: askedMs };
    newest.put({ kind: "lead", epoch });
  };

  const renew = async (term: { readonly epoch: number; renewedMs: number }): Promise<void> => {
    const askedMs = performance.now();
    try {
      await write({ holderIdentity: identity }, term.epoch);
    } catch (error) {
      // The answer to an earlier renewal may have been lost; what stands there tells.
      if (!isConflict(error) && !isNotFound(error)) throw error;
      await read();
      if (seen?.lease.spec.holderIdentity !== identity || epochOf(seen.lease) !== term.epoch)
        return lose("another one holds it");
      await write({ holderIdentity: identity }, term.epoch);
    }
    term.renewedMs = askedMs;
  };

  const lose = (why: string): void => {
    if (held === undefined) return;
    held = undefined;
    log.warning("the Lease was lost", { lease: `${namespace}/${name}`, reason: why });
    newest.put({ kind: "follow" });
  };

  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      try {
        if (held === undefined) await take();
        else await renew(held);
        lastProblem = undefined;
      } catch (error) {
        const problem = describeError(error);
        if (!isConflict(error) && problem !== lastProblem && !stopping.signal.aborted)
          log.warning("the Lease cannot be reached", { lease: `${namespace}/${name}`, reason: problem });
        lastProblem = problem;
      }
      if (held !== undefined && performance.now() - held.renewedMs > renewDeadlineMs)
        lose(`it could not be renewed: ${lastProblem ?? "too late"}`);
      await pause(retryMs * (0.8 + Math.random() * 0.4), stopping.signal);
    }
  };
  /** Also when a request hangs, or the process was frozen: a late leader stops before it does anything else. */
  const watchdog = setInterval(
    () => {
      if (held !== undefined && performance.now() - held.renewedMs > renewDeadlineMs)
        lose("it could not be renewed in time");
    },
    Math.max(100, retryMs / 4),
  );
  watchdog.unref();
  const running = run();

  return {
    terms: newest.values,
    stop: async () => {
      stopping.abort();
      clearInterval(watchdog);
      await running;
      const term = held;
      held = undefined;
      newest.put({ kind: "follow" });
      newest.end();
      if (term === undefined) return;
      await write({ holderIdentity: "", leaseDurationSeconds: 1 }, term.epoch).catch((error: unknown) => {
        if (!(error instanceof ApiError)) throw error;
        log.warning("the Lease could not be given back", { reason: describeError(error) });
      });
    },
  };
}

function epochOf({ metadata }: Lease): number {
  return Number(metadata.annotations?.[EPOCH_ANNOTATION] ?? 0);
}

/** Kubernetes' MicroTime: RFC 3339 with six digits. */
function microTime(): string {
  return new Date().toISOString().replace("Z", "000Z");
}
