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
const DELETION_TAINT = "ToBeDeletedByClusterAutoscaler";

export function createNodeHealth(options: NodeHealthOptions): NodeHealth {
  const { families, progress, nowMs = Date.now, syncPeriodMs = SYNC_PERIOD_MS } = options;
  const startedAtMs = nowMs();

  const familyIsHealthy = (family: IpFamily, now: number): boolean => {
    const { queuedSinceMs, syncedAtMs } = progress(family);
    if (queuedSinceMs === undefined || syncedAtMs === undefined) return true;
    return now - queuedSinceMs < 2 * syncPeriodMs;
  };
  const status = (now: number): Readonly<Record<string, { lastUpdated: string; healthy: boolean }>> =>
    Object.fromEntries(
      families.map((family) => {
        const healthy = familyIsHealthy(family, now);
        // What is up to date was so until now.
        const lastUpdated = time(healthy ? now : (progress(family).syncedAtMs ?? startedAtMs));
        return [family, { lastUpdated, healthy }];
      }),
    );
  const isEligible = (): boolean => {
    const node = options.node();
    if (node === undefined) return !options.nodeExpected;
    return !node.deleting && !node.taints.some(({ key }) => key === DELETION_TAINT);
  };
  const oldest = (now: number): number => {
    const ill = families.filter((family) => !familyIsHealthy(family, now));
    return ill.length === 0
      ? now
      : Math.min(...ill.map((family) => progress(family).syncedAtMs ?? startedAtMs));
  };

  const readiness = (now: number): HttpAnswer => {
    const since = families.map((family) => progress(family).syncedAtMs);
    const ready = !since.includes(undefined);
    return {
      status: ready ? 200 : 503,
      headers: JSON_HEADERS,
      body: JSON.stringify({
        lastUpdated: time(Math.min(...since.map((syncedAtMs) => syncedAtMs ?? startedAtMs))),
        currentTime: time(now),
        ready,
        status: Object.fromEntries(
          families.map((family, index) => {
            const syncedAtMs = since[index];
            return [
              family,
              { lastUpdated: time(syncedAtMs ?? startedAtMs), ready: syncedAtMs !== undefined },
            ];
          }),
        ),
      }),
    };
  };

  return {
    isHealthy: () => families.every((family) => familyIsHealthy(family, nowMs())),
    answer: (path) => {
      const now = nowMs();
      if (path === "/readyz") return readiness(now);
      if (path !== "/healthz" && path !== "/livez") return NOT_FOUND;
      const healthy = families.every((family) => familyIsHealthy(family, now));
      const eligible = isEligible();
      return {
        status: healthy && (path === "/livez" || eligible) ? 200 : 503,
        headers: JSON_HEADERS,
        body: JSON.stringify({
          lastUpdated: time(oldest(now)),
          currentTime: time(now),
          ...(path === "/healthz" ? { nodeEligible: eligible } : {}),
          healthy,
          status: status(now),
        }),
      };
    },
  };
}

/** RFC 3339. */
function time(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
