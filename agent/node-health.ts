/**
 * `/healthz` and `/livez`: whether this node's rules follow the cluster, and whether load balancers should use the node.
 * `/readyz`: whether it has had its rules at all.
 *
 * In: how far the rules of each family are, and the Node. Out: kube-proxy's answers (reference: `pkg/proxy/healthcheck`),
 * since load balancers and DaemonSet probes are set up for them.
 *
 * Unhealthy is a node on which a change waits for longer than twice the sync period; starting up is healthy, or no probe
 * would let a first sync of a large cluster end. Not eligible (`/healthz` only) is a node that is being deleted or that the
 * cluster autoscaler is about to remove: a node that is not known yet is not eligible either.
 *
 * Ready, which kube-proxy has no word for, is what a roll-out waits for before it takes the next node: the first whole lists
 * are in the kernel. It stays so, since rules that stand go on serving whatever becomes of later changes.
 */

import type { IpFamily, Node } from "../cluster/model.ts";
import { type HttpAnswer, JSON_HEADERS, NOT_FOUND } from "./http-server.ts";

export interface FamilyProgress {
  /** Milliseconds since 1970; `undefined`: nothing waits. */
  readonly queuedSinceMs: number | undefined;
  /** `undefined`: not yet. */
  readonly syncedAtMs: number | undefined;
}

export interface NodeHealthOptions {
  readonly families: readonly IpFamily[];
  readonly progress: (family: IpFamily) => FamilyProgress;
  /** `undefined`: not known, or not watched. */
  readonly node: () => Node | undefined;
  /** Files that hold no Node say nothing about it; an API server that has none does. */
  readonly nodeExpected: boolean;
  readonly syncPeriodMs?: number;
  readonly nowMs?: () => number;
}

export interface NodeHealth {
  readonly isHealthy: () => boolean;
  readonly answer: (path: string) => HttpAnswer;
}

const SYNC_PERIOD_MS = 30_000;
/** As Go prints a time that was not set. */
const NEVER = "0001-01-01T00:00:00Z";
const DELETION_TAINT = "ToBeDeletedByClusterAutoscaler";

export function createNodeHealth(options: NodeHealthOptions): NodeHealth {
  const { families, progress, nowMs = Date.now, syncPeriodMs = SYNC_PERIOD_MS } = options;

  const isFamilyHealthy = (family: IpFamily, now: number): boolean => {
    const { queuedSinceMs, syncedAtMs } = progress(family);
    if (queuedSinceMs === undefined || syncedAtMs === undefined) return true;
    return now - queuedSinceMs < 2 * syncPeriodMs;
  };
  const isHealthy = (now: number): boolean => families.every((family) => isFamilyHealthy(family, now));
  const isEligible = (): boolean => {
    const node = options.node();
    if (node === undefined) return !options.nodeExpected;
    return !node.deleting && !node.taints.some(({ key }) => key === DELETION_TAINT);
  };

  const readiness = (now: number): HttpAnswer => {
    const status = families.map((family) => {
      const { syncedAtMs } = progress(family);
      const lastUpdated = syncedAtMs === undefined ? NEVER : time(syncedAtMs);
      return [family, { lastUpdated, ready: syncedAtMs !== undefined }] as const;
    });
    const ready = status.every(([, family]) => family.ready);
    return {
      status: ready ? 200 : 503,
      headers: JSON_HEADERS,
      body: JSON.stringify({ currentTime: time(now), ready, status: Object.fromEntries(status) }),
    };
  };

  return {
    isHealthy: () => isHealthy(nowMs()),
    answer: (path) => {
      const now = nowMs();
      if (path === "/readyz") return readiness(now);
      if (path !== "/healthz" && path !== "/livez") return NOT_FOUND;
      const healthy = isHealthy(now);
      const eligible = isEligible();
      const isGood = healthy && (path === "/livez" || eligible);
      const synced = families.flatMap((family) => {
        const { syncedAtMs } = progress(family);
        return syncedAtMs === undefined ? [] : [{ family, syncedAtMs }];
      });
      const status = synced.map(
        ({ family, syncedAtMs }) =>
          [family, { lastUpdated: time(syncedAtMs), healthy: isFamilyHealthy(family, now) }] as const,
      );
      const lastSync = synced.length === 0 ? NEVER : time(Math.max(...synced.map((one) => one.syncedAtMs)));
      return {
        status: isGood ? 200 : 503,
        headers: JSON_HEADERS,
        body: JSON.stringify({
          // What is up to date was so until now.
          lastUpdated: isGood ? time(now) : lastSync,
          currentTime: time(now),
          ...(path === "/healthz" ? { nodeEligible: eligible } : {}),
          healthy,
          ...(status.length === 0 ? {} : { status: Object.fromEntries(status) }),
        }),
      };
    },
  };
}

/** RFC 3339. */
function time(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
