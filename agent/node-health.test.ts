import { describe, expect, test } from "vitest";
import type { IpFamily, Node } from "../cluster/model.ts";
import { serveHttp } from "./http-server.ts";
import { createNodeHealth, type FamilyProgress } from "./node-health.ts";

const node: Node = {
  kind: "Node",
  meta: { namespace: "", name: "n1", labels: {}, annotations: {} },
  addresses: [],
  podCIDRs: [],
  taints: [],
  deleting: false,
};
const tainted: Node = { ...node, taints: [{ key: "ToBeDeletedByClusterAutoscaler", effect: "NoSchedule" }] };
const NOW = Date.parse("2026-11-23T06:00:00Z");
const current: FamilyProgress = { queuedSinceMs: undefined, syncedAtMs: NOW - 90_000 };
const slow: FamilyProgress = { queuedSinceMs: NOW - 59_999, syncedAtMs: NOW - 90_000 };
const stuck: FamilyProgress = { queuedSinceMs: NOW - 60_000, syncedAtMs: NOW - 90_000 };
const starting: FamilyProgress = { queuedSinceMs: NOW - 600_000, syncedAtMs: undefined };

interface Case {
  readonly IPv4?: FamilyProgress;
  readonly IPv6?: FamilyProgress;
  readonly node?: Node | undefined;
  readonly nodeExpected?: boolean;
}

function health(given: Case) {
  const progress: Record<IpFamily, FamilyProgress> = {
    IPv4: given.IPv4 ?? current,
    IPv6: given.IPv6 ?? current,
  };
  return createNodeHealth({
    families: ["IPv4", "IPv6"],
    progress: (family) => progress[family],
    node: () => ("node" in given ? given.node : node),
    nodeExpected: given.nodeExpected ?? true,
    nowMs: () => NOW,
  });
}

describe("status codes", () => {
  test.each([
    ["all is well", {}, 200, 200],
    ["a change waits for less than twice the period", { IPv4: slow }, 200, 200],
    ["one family is stuck", { IPv6: stuck }, 503, 503],
    ["starting up", { IPv4: starting, IPv6: starting }, 200, 200],
    ["the autoscaler is about to remove the node", { node: tainted }, 503, 200],
    ["the node is being deleted", { node: { ...node, deleting: true } }, 503, 200],
    ["the API server knows no such node", { node: undefined }, 503, 200],
    ["files hold no Node", { node: undefined, nodeExpected: false }, 200, 200],
  ] as const)("%s", (_, given: Case, healthz, livez) => {
    expect(health(given).answer("/healthz").status).toBe(healthz);
    expect(health(given).answer("/livez").status).toBe(livez);
  });

  test.each([
    ["all is well", {}, 200],
    ["a later change waits for too long", { IPv6: stuck }, 200],
    ["starting up", { IPv4: starting, IPv6: starting }, 503],
    ["one family has no rules yet", { IPv6: starting }, 503],
    ["the autoscaler is about to remove the node", { node: tainted }, 200],
  ] as const)("/readyz: %s", (_, given: Case, readyz) => {
    expect(health(given).answer("/readyz").status).toBe(readyz);
  });
});

describe("bodies, as kube-proxy's `proxy_health.go` makes them", () => {
  const now = "2026-11-23T06:00:00.000Z";
  const older = "2026-11-23T05:57:30.000Z";
  const newer = "2026-11-23T05:58:30.000Z";
  /** The order of the fields counts, too. */
  const bodies = (given: Case) => {
    const { answer } = health(given);
    return [answer("/healthz").body, answer("/livez").body];
  };

  test("an answer of 200 is as of now; each family tells when it was last in line", () => {
    const status = {
      IPv4: { lastUpdated: newer, healthy: true },
      IPv6: { lastUpdated: older, healthy: true },
    };
    expect(bodies({ IPv6: { ...slow, syncedAtMs: NOW - 150_000 } })).toEqual([
      JSON.stringify({ lastUpdated: now, currentTime: now, nodeEligible: true, healthy: true, status }),
      JSON.stringify({ lastUpdated: now, currentTime: now, healthy: true, status }),
    ]);
  });

  test("one family is stuck: that of the other is the last one", () => {
    const status = {
      IPv4: { lastUpdated: newer, healthy: true },
      IPv6: { lastUpdated: older, healthy: false },
    };
    expect(bodies({ IPv6: { ...stuck, syncedAtMs: NOW - 150_000 } })).toEqual([
      JSON.stringify({ lastUpdated: newer, currentTime: now, nodeEligible: true, healthy: false, status }),
      JSON.stringify({ lastUpdated: newer, currentTime: now, healthy: false, status }),
    ]);
  });

  test("a node that is not eligible is healthy all the same", () => {
    const family = { lastUpdated: newer, healthy: true };
    const status = { IPv4: family, IPv6: family };
    expect(bodies({ node: tainted })).toEqual([
      JSON.stringify({ lastUpdated: newer, currentTime: now, nodeEligible: false, healthy: true, status }),
      JSON.stringify({ lastUpdated: now, currentTime: now, healthy: true, status }),
    ]);
  });

  test("before the first sync there is no status, and no time", () => {
    const nothing = { IPv4: starting, IPv6: starting };
    expect(bodies(nothing)).toEqual([
      JSON.stringify({ lastUpdated: now, currentTime: now, nodeEligible: true, healthy: true }),
      JSON.stringify({ lastUpdated: now, currentTime: now, healthy: true }),
    ]);
    expect(bodies({ ...nothing, node: tainted })[0]).toBe(
      JSON.stringify({
        lastUpdated: "0001-01-01T00:00:00Z",
        currentTime: now,
        nodeEligible: false,
        healthy: true,
      }),
    );
  });

  test("/readyz before one family's first sync", () => {
    const status = {
      IPv4: { lastUpdated: newer, ready: true },
      IPv6: { lastUpdated: "0001-01-01T00:00:00Z", ready: false },
    };
    expect(health({ IPv6: starting }).answer("/readyz").body).toBe(
      JSON.stringify({ currentTime: now, ready: false, status }),
    );
  });
});

test("over a socket", async () => {
  const server = await serveHttp({ host: "127.0.0.1", port: 0 }, health({ IPv4: stuck }).answer);
  try {
    const answer = await fetch(`http://127.0.0.1:${server.port}/healthz?verbose`);
    expect(answer.status).toBe(503);
    expect(answer.headers.get("content-type")).toBe("application/json");
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    expect((await fetch(`http://127.0.0.1:${server.port}/other`)).status).toBe(404);
  } finally {
    await server.close();
  }
});
