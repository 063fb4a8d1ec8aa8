/** Balancing and affinity over real sockets, with pods that die, hang and come back. */

import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BackendUnderTest, serviceManifests } from "./support/backend.ts";
import { Edge, ingress, type Reply } from "./support/edge.ts";

let edge: Edge;

const site = (
  service: string,
  name: string,
  annotations: Record<string, string> = {},
  more: Parameters<typeof ingress>[1] = {},
) => ingress(service, { host: `${name}.example.com`, annotations, ...more });

beforeAll(async () => {
  edge = await Edge.start({
    backends: {
      three: 3,
      five: 5,
      seven: 7,
      ewma: 3,
      hash: 5,
      subset: 6,
      sticky: 3,
      persistent: 3,
      old: 3,
      moving: 2,
      index: 3,
      main: 2,
      canary: 2,
      dying: 3,
      failing: 3,
    },
    manifests: [
      site("three", "three"),
      site("five", "five"),
      site("seven", "seven"),
      site("ewma", "ewma", { "load-balance": "ewma" }),
      site("hash", "hash", { "upstream-hash-by": "$arg_key" }),
      site("subset", "subset", {
        "upstream-hash-by": "$arg_key",
        "upstream-hash-by-subset": "true",
        "upstream-hash-by-subset-size": "2",
      }),
      site("sticky", "sticky", {
        affinity: "cookie",
        "session-cookie-name": "stay",
        "session-cookie-path": "/app",
        "session-cookie-domain": "example.com",
        "session-cookie-expires": "172800",
        "session-cookie-max-age": "172800",
        "session-cookie-samesite": "Lax",
        "session-cookie-secure": "true",
      }),
      site(
        "persistent",
        "persistent",
        { affinity: "cookie", "affinity-mode": "persistent" },
        { paths: { "/app": "Prefix" } },
      ),
      site("old", "old", {
        affinity: "cookie",
        "session-cookie-hash": "sha1",
        "session-cookie-name": "route",
      }),
      site("index", "index", { affinity: "cookie", "session-cookie-hash": "index" }),
      site("moving", "moving", { affinity: "cookie", "affinity-mode": "persistent" }),
      site("main", "canary", { affinity: "cookie" }, { name: "main" }),
      site("canary", "canary", { canary: "true", "canary-by-header": "X-Canary" }, { name: "canary" }),
      site("dying", "dying"),
      site("old", "none", {
        affinity: "cookie",
        "session-cookie-samesite": "None",
        "session-cookie-conditional-samesite-none": "true",
      }),
      site("failing", "failing", { affinity: "cookie", "session-cookie-change-on-failure": "true" }),
    ].join(""),
  });
});

afterAll(async () => edge.stop());

const get = (name: string, options: Partial<Parameters<Edge["request"]>[0]> = {}): Promise<Reply> =>
  edge.request({ host: `${name}.example.com`, ...options });

async function pods(name: string, count: number, options: Partial<Parameters<Edge["request"]>[0]> = {}) {
  const counts = new Map<string, number>();
  for (let i = 0; i < count; i++) {
    const { pod } = (await get(name, options)).echo;
    counts.set(pod, (counts.get(pod) ?? 0) + 1);
  }
  return counts;
}

const cookieOf = (reply: Reply): string => (reply.cookies[0] ?? "").split(";")[0] ?? "";

describe("round robin", () => {
  test.each([
    ["three", 3],
    ["five", 5],
    ["seven", 7],
  ] as const)("%s: each pod gets its share", async (name, count) => {
    const counts = await pods(name, count * 20);
    expect([...counts.values()]).toEqual(new Array(count).fill(20));
  });
});

test("ewma asks everybody, and the quick more than the slow", async () => {
  const [slow] = edge.backends.get("ewma") ?? [];
  if (slow === undefined) throw new Error("no pod");
  slow.onRequest = (request, response) => void setTimeout(() => slow.echo(request, response), 80);
  const counts = await pods("ewma", 60);
  expect(counts.size).toBe(3);
  expect(counts.get(slow.name) ?? 0).toBeLessThan(12);
});

describe("upstream-hash-by", () => {
  test("the same text goes to the same pod, and texts are spread", async () => {
    const seen = new Set<string>();
    for (let key = 0; key < 40; key++) {
      const counts = await pods("hash", 3, { path: `/?key=${key}` });
      expect(counts.size).toBe(1);
      for (const pod of counts.keys()) seen.add(pod);
    }
    expect(seen.size).toBe(5);
  });

  test("a subset shares a text", async () => {
    const counts = await pods("subset", 40, { path: "/?key=a" });
    expect(counts.size).toBe(2);
  });
});

describe("cookie affinity", () => {
  test("the cookie, attribute by attribute", async () => {
    const reply = await get("sticky", { path: "/x" });
    expect(reply.cookies).toHaveLength(1);
    expect(reply.cookies[0]).toMatch(
      /^stay=[0-9a-f]{32}\|[0-9a-f]{32}; Expires=\w{3}, \d\d-\w{3}-\d\d \d\d:\d\d:\d\d GMT; Max-Age=172800; Domain=example\.com; Path=\/app; Secure; HttpOnly; SameSite=Lax$/,
    );
  });

  test("who has it stays, and gets no other", async () => {
    const first = await get("sticky");
    for (let i = 0; i < 9; i++) {
      const reply = await get("sticky", { headers: { Cookie: `a=b; ${cookieOf(first)}; c=d` } });
      expect(reply.echo.pod).toBe(first.echo.pod);
      expect(reply.cookies).toEqual([]);
    }
  });

  test("new clients are spread", async () => {
    const counts = await pods("sticky", 30);
    expect(counts.size).toBe(3);
  });

  test("a cookie of nobody's is replaced", async () => {
    for (const value of ["", "x", `${"0".repeat(32)}|${"0".repeat(32)}`, "%7C", "a|b|c"]) {
      const reply = await get("sticky", { headers: { Cookie: `stay=${value}` } });
      expect(reply.status).toBe(200);
      expect(reply.cookies, value).toHaveLength(1);
    }
  });

  test("a persistent cookie that ingress-nginx minted means the same pod", async () => {
    const md5 = (text: string): string => createHash("md5").update(text).digest("hex");
    const name = "default-persistent-80";
    for (const pod of edge.backends.get("persistent") ?? []) {
      const value = `${md5(`${name}127.0.0.1:${pod.port}`)}|${md5(md5(name) + name)}`;
      const reply = await get("persistent", {
        path: "/app/x",
        headers: { Cookie: `INGRESSCOOKIE=${value}` },
      });
      expect(reply.echo.pod).toBe(pod.name);
      expect(reply.cookies).toEqual([]);
    }
  });

  test("SameSite=None is left out for browsers that misread it", async () => {
    expect((await get("none", { headers: { "User-Agent": "Mozilla/5.0 Chrome/120.0" } })).cookies[0]).toMatch(
      /; SameSite=None$/,
    );
    expect((await get("none", { headers: { "User-Agent": "Mozilla/5.0 Chrome/59.0" } })).cookies[0]).toMatch(
      /; HttpOnly$/,
    );
  });

  test("the Path is the rule's where none is given", async () => {
    expect((await get("persistent", { path: "/app/x/y" })).cookies[0]).toMatch(/; Path=\/app; HttpOnly$/);
  });

  test("session-cookie-hash as before 0.24: the hash of the endpoint, or its place", async () => {
    const reply = await get("old");
    const pod = edge.backends.get("old")?.find(({ name }) => name === reply.echo.pod);
    expect(cookieOf(reply)).toBe(
      `route=${createHash("sha1").update(`127.0.0.1:${pod?.port}`).digest("hex")}`,
    );
    expect((await get("old", { headers: { Cookie: cookieOf(reply) } })).echo.pod).toBe(reply.echo.pod);
    const indexed = await get("index");
    expect(cookieOf(indexed)).toMatch(/^INGRESSCOOKIE=[012]$/);
    expect((await get("index", { headers: { Cookie: cookieOf(indexed) } })).echo.pod).toBe(indexed.echo.pod);
  });

  test("sessions stay when pods come, and move only from the one that goes", async () => {
    const sessions: Reply[] = [];
    for (let i = 0; i < 6; i++) sessions.push(await get("moving"));
    const before = edge.backends.get("moving") ?? [];
    const added = await BackendUnderTest.start("moving-new");
    try {
      await edge.apply({ "service-moving.yaml": serviceManifests("moving", [...before, added]) });
      for (const session of sessions) {
        const reply = await get("moving", { headers: { Cookie: cookieOf(session) } });
        expect(reply.echo.pod).toBe(session.echo.pod);
      }
      const [stays, goes] = before;
      if (stays === undefined || goes === undefined) throw new Error("two pods are needed");
      await edge.apply({ "service-moving.yaml": serviceManifests("moving", [stays, added]) });
      for (const session of sessions) {
        const reply = await get("moving", { headers: { Cookie: cookieOf(session) } });
        if (session.echo.pod === stays.name) expect(reply.echo.pod).toBe(stays.name);
        else {
          expect(reply.echo.pod).not.toBe(goes.name);
          expect(reply.cookies).toHaveLength(1);
        }
      }
    } finally {
      await added.stop();
    }
  });

  test("with a canary, a client stays where its cookie says, whatever the rules say", async () => {
    const toCanary = await get("canary", { headers: { "X-Canary": "always" } });
    expect(toCanary.echo.pod).toMatch(/^canary-/);
    const again = await get("canary", { headers: { Cookie: cookieOf(toCanary) } });
    expect(again.echo.pod).toBe(toCanary.echo.pod);
    const toMain = await get("canary");
    expect(toMain.echo.pod).toMatch(/^main-/);
    const stays = await get("canary", { headers: { Cookie: cookieOf(toMain), "X-Canary": "always" } });
    expect(stays.echo.pod).toBe(toMain.echo.pod);
  });
});

test("service-upstream goes to the Service's own address and port", async () => {
  const service = await BackendUnderTest.start("cluster-ip");
  try {
    const manifest = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "upstream" },
      spec: { clusterIP: "127.0.0.1", ports: [{ port: service.port, targetPort: 1 }] },
    };
    await edge.apply({
      "upstream.yaml": `${JSON.stringify(manifest)}\n${site("upstream", "upstream", { "service-upstream": "true" }, { name: "upstream", port: service.port })}`,
    });
    expect((await get("upstream")).echo.pod).toBe("cluster-ip");
  } finally {
    await service.stop();
  }
});

describe("pods that die", () => {
  test("one of three killed under load loses no idempotent request", async () => {
    const [victim] = edge.backends.get("dying") ?? [];
    if (victim === undefined) throw new Error("no pod");
    const failures: number[] = [];
    let sent = 0;
    const client = async (): Promise<void> => {
      while (sent < 300) {
        if (++sent === 100) await victim.stop();
        const { status } = await get("dying", { path: `/?n=${sent}` });
        if (status !== 200) failures.push(status);
      }
    };
    await Promise.all(Array.from({ length: 8 }, client));
    expect(failures).toEqual([]);
  });

  test("a session moves when its pod fails and it may", async () => {
    const session = await get("failing");
    const pod = edge.backends.get("failing")?.find(({ name }) => name === session.echo.pod);
    await pod?.stop();
    const reply = await get("failing", { headers: { Cookie: cookieOf(session) } });
    expect(reply.status).toBe(200);
    expect(reply.echo.pod).not.toBe(session.echo.pod);
    expect(reply.cookies).toHaveLength(1);
  });
});
