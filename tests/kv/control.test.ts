/** The control service as a whole: real HTTP in, a KV API that imitates Cloudflare's out. */

import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createControlApi } from "../../control/api.ts";
import { LOCAL_PACE } from "../../control/kv/publisher.ts";
import type { Leadership, Term } from "../../control/leadership.ts";
import { createLog } from "../../control/log.ts";
import { runControl } from "../../control/main.ts";
import { createNewest } from "../../control/newest.ts";
import { openApiDocument } from "../../control/openapi.ts";
import type { ControlSettings } from "../../control/settings.ts";
import { decodePointer, POINTER_KEY, type Pointer } from "../../edge-config/pointer.ts";
import { type KvServer, startKvServer } from "./kv-server.ts";

const OPERATOR = "operator-0123456789";
const EU = "eu-token-0123456789";
const CONFIG_KEY = "k".repeat(32);

let kv: KvServer;
let ends: (() => Promise<void>)[];

beforeEach(async () => {
  kv = await startKvServer();
  ends = [];
});
afterEach(async () => {
  await Promise.all(ends.map((end) => end()));
  await kv.close();
});

interface Running {
  readonly url: string;
  readonly lines: string[];
  readonly end: () => Promise<void>;
  readonly request: (
    method: string,
    path: string,
    body?: string,
    token?: string,
  ) => Promise<{ status: number; body: Answer }>;
}

// biome-ignore lint/suspicious/noExplicitAny: answers of the API, whose shape the assertions are about.
type Answer = any;

async function start(changes: Partial<ControlSettings> = {}, leadership?: Leadership): Promise<Running> {
  const stop = new AbortController();
  const lines: string[] = [];
  let listening: (url: string) => void = () => {};
  const url = new Promise<string>((resolve) => {
    listening = resolve;
  });
  const settings: ControlSettings = {
    kv: { baseUrl: kv.baseUrl, namespaceId: kv.namespaceId, token: kv.token, callsInFiveMinutes: 100_000 },
    configKey: CONFIG_KEY,
    pace: { ...LOCAL_PACE, retryMinMs: 1, retryMaxMs: 5 },
    dryRun: false,
    compile: {},
    listen: { host: "127.0.0.1", port: 0 },
    api: {
      tokens: { operator: OPERATOR, clusters: new Map([["eu", EU]]) },
      maxBodyBytes: 100_000,
      loopbackOnly: false,
    },
    ...changes,
  };
  const running = runControl({
    settings,
    sources: [],
    ...(leadership === undefined ? {} : { leadership }),
    log: createLog("pretty", (line) => lines.push(line)),
    onListening: listening,
    stop: stop.signal,
  });
  const base = await Promise.race([url, running.then(() => Promise.reject(new Error("it ended")))]);
  const end = async (): Promise<void> => {
    stop.abort();
    await running;
  };
  ends.push(end);
  return {
    url: base,
    lines,
    end,
    request: async (method, path, body, token = OPERATOR) => {
      const response = await fetch(`${base}${path}`, {
        method,
        headers: token === "" ? {} : { authorization: `Bearer ${token}` },
        ...(body === undefined ? {} : { body }),
      });
      const text = await response.text();
      return {
        status: response.status,
        body: response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text,
      };
    },
  };
}

/** Manifests of one host; the endpoint tells one state from another. */
function state(
  host: string,
  endpoint = "10.0.0.1",
  created = "2026-01-01T00:00:00Z",
  namespace = "shop",
): string {
  return JSON.stringify({
    kind: "List",
    apiVersion: "v1",
    items: [
      {
        apiVersion: "networking.k8s.io/v1",
        kind: "Ingress",
        metadata: { name: "web", namespace, creationTimestamp: created },
        spec: {
          rules: [
            {
              host,
              http: {
                paths: [
                  {
                    path: "/",
                    pathType: "Prefix",
                    backend: { service: { name: "web", port: { number: 80 } } },
                  },
                ],
              },
            },
          ],
        },
      },
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "web", namespace },
        spec: { ports: [{ port: 80 }] },
      },
      {
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        metadata: { name: "web-1", namespace, labels: { "kubernetes.io/service-name": "web" } },
        addressType: "IPv4",
        ports: [{ port: 8080 }],
        endpoints: [{ addresses: [endpoint] }],
      },
    ],
  });
}

async function pointer(): Promise<Pointer | undefined> {
  const text = kv.store.get(POINTER_KEY);
  if (text === undefined) return undefined;
  const reading = await decodePointer(text, undefined);
  if (reading.kind === "refused") throw new Error(reading.reason);
  return reading.loaded.pointer;
}

/** All shards that stand in KV, as one text. */
const shards = (): string =>
  [...kv.store]
    .filter(([key]) => key.startsWith("s/"))
    .map(([, text]) => text)
    .join("\n");

describe("a push", () => {
  test("is published, explained, and seen in the status", async () => {
    const control = await start();
    expect((await control.request("GET", "/readyz", undefined, "")).status).toBe(503);
    const pushed = await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example"));
    expect(pushed).toMatchObject({
      status: 200,
      body: { cluster: "eu", published: true, generation: 1, objects: { ingresses: 1, endpoints: 1 } },
    });
    expect(await pointer()).toMatchObject({ generation: 1, clusters: ["eu"] });
    expect(shards()).toContain("10.0.0.1:8080");
    expect((await control.request("GET", "/readyz", undefined, "")).status).toBe(200);
    const explained = await control.request("GET", "/v1/explain?url=http://shop.example/cart");
    expect(explained.body.backend.endpoints).toEqual(["10.0.0.1:8080"]);
    const status = await control.request("GET", "/v1/status");
    expect(status.body).toMatchObject({
      ready: true,
      publisher: { generation: 1, pending: false },
      edge: { hosts: 1, endpoints: 1 },
    });
  });

  test("of one endpoint more costs one shard and the pointer, and an identical one nothing", async () => {
    const control = await start();
    await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example"));
    kv.seen.length = 0;
    await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example", "10.0.0.2"));
    expect(
      kv.seen.filter(({ operation }) => operation.endsWith("put")).map(({ keys }) => keys.length),
    ).toEqual([1, 1]);
    kv.seen.length = 0;
    await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example", "10.0.0.2"));
    expect(kv.seen).toEqual([]);
  });

  test.each([
    ["a text that breaks off", state("shop.example").slice(0, -20), 422],
    ["nothing", "", 422],
    ["an empty list", '{"kind":"List","apiVersion":"v1","items":[]}', 422],
    ["a page of HTML", "<html><body>502</body></html>", 422],
    ["too much", `# ${"x".repeat(100_000)}`, 413],
  ])("of %s changes nothing", async (_, text, status) => {
    const control = await start();
    await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example"));
    const before = new Map(kv.store);
    const answer = await control.request("PUT", "/v1/clusters/eu/state?wait=true", text);
    expect(answer.status).toBe(status);
    expect(answer.body.error).toMatch(/\.$/);
    expect(kv.store).toEqual(before);
  });

  test("with a wrong object serves the others and names it", async () => {
    const control = await start();
    const list = JSON.parse(state("shop.example"));
    list.items.push({
      apiVersion: "networking.k8s.io/v1",
      kind: "Ingress",
      metadata: { name: "bad", namespace: "shop" },
      spec: { rules: "none" },
    });
    const answer = await control.request("PUT", "/v1/clusters/eu/state?wait=true", JSON.stringify(list));
    expect(answer).toMatchObject({ status: 200, body: { published: true } });
    const { body } = await control.request("GET", "/v1/diagnostics?severity=error");
    expect(body.diagnostics).toEqual([
      expect.objectContaining({ cluster: "eu", kind: "Ingress", object: "shop/bad" }),
    ]);
  });
});

describe("several clusters", () => {
  test("share an edge; the same Service in both stays two backends", async () => {
    const control = await start();
    await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("eu.example", "10.1.0.1"));
    await control.request("PUT", "/v1/clusters/us/state?wait=true", state("us.example", "10.2.0.1"));
    for (const [host, endpoint] of [
      ["eu.example", "10.1.0.1:8080"],
      ["us.example", "10.2.0.1:8080"],
    ] as const) {
      const { body } = await control.request("GET", `/v1/explain?url=http://${host}/`);
      expect(body.backend.endpoints).toEqual([endpoint]);
    }
  });

  test("that claim one host: the one with the oldest Ingress has it, and the other is told", async () => {
    const control = await start();
    await control.request(
      "PUT",
      "/v1/clusters/a/state?wait=true",
      state("shop.example", "10.1.0.1", "2026-02-01T00:00:00Z"),
    );
    await control.request(
      "PUT",
      "/v1/clusters/b/state?wait=true",
      state("shop.example", "10.2.0.1", "2026-01-01T00:00:00Z"),
    );
    const { body } = await control.request("GET", "/v1/explain?url=http://shop.example/");
    expect(body.backend.endpoints).toEqual(["10.2.0.1:8080"]);
    const told = await control.request("GET", "/v1/diagnostics?cluster=a&severity=error");
    expect(told.body.diagnostics[0].message).toContain("belongs to the cluster b");
    expect((await control.request("DELETE", "/v1/clusters/b")).status).toBe(200);
    const after = await control.request("GET", "/v1/explain?url=http://shop.example/");
    expect(after.body.backend.endpoints).toEqual(["10.1.0.1:8080"]);
  });

  test("keep to the rules of ownership, whatever their ages", async () => {
    const control = await start({
      hostOwnership: { hosts: [{ host: "*.eu.example", cluster: "eu", namespace: "shop" }] },
    });
    await control.request(
      "PUT",
      "/v1/clusters/us/state?wait=true",
      state("web.eu.example", "10.2.0.1", "2020-01-01T00:00:00Z"),
    );
    const refused = await control.request("GET", "/v1/explain?url=http://web.eu.example/");
    expect(refused.body.answer.status).toBe(404);
    await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("web.eu.example", "10.1.0.1"));
    const { body } = await control.request("GET", "/v1/explain?url=http://web.eu.example/");
    expect(body.backend.endpoints).toEqual(["10.1.0.1:8080"]);
    await control.request(
      "PUT",
      "/v1/clusters/eu/state?wait=true",
      state("web.eu.example", "10.1.0.9", "2020-01-01T00:00:00Z", "thief"),
    );
    const thief = await control.request("GET", "/v1/explain?url=http://web.eu.example/");
    expect(thief.body.answer.status).toBe(404);
  });

  test("do not share a host among their namespaces where the policy says so: the oldest has it", async () => {
    const control = await start({ hostOwnership: { sharing: "namespace" } });
    const both = {
      kind: "List",
      apiVersion: "v1",
      items: [
        ...JSON.parse(state("web.example", "10.1.0.1", "2026-01-01T00:00:00Z", "old")).items,
        ...JSON.parse(state("web.example", "10.2.0.1", "2026-02-01T00:00:00Z", "thief")).items,
      ],
    };
    await control.request("PUT", "/v1/clusters/eu/state?wait=true", JSON.stringify(both));
    const { body } = await control.request("GET", "/v1/explain?url=http://web.example/");
    expect(body.backend.endpoints).toEqual(["10.1.0.1:8080"]);
    const told = await control.request("GET", "/v1/diagnostics?object=thief/web&severity=error");
    expect(told.body.diagnostics[0].message).toContain("the namespace old has had it for longer");
    // Once the owner has gone, the next one has it.
    await control.request(
      "PUT",
      "/v1/clusters/eu/state?wait=true",
      JSON.stringify({ ...both, items: both.items.slice(3) }),
    );
    const after = await control.request("GET", "/v1/explain?url=http://web.example/");
    expect(after.body.backend.endpoints).toEqual(["10.2.0.1:8080"]);
  });

  test("go on after a restart with what they have at the edge: nothing is written, and one may change alone", async () => {
    const first = await start();
    await first.request("PUT", "/v1/clusters/eu/state?wait=true", state("eu.example"));
    await first.request("PUT", "/v1/clusters/us/state?wait=true", state("us.example", "10.2.0.1"));
    await first.end();
    const before = new Map(kv.store);

    const second = await start();
    await until(async () => (await second.request("GET", "/readyz")).status === 200);
    expect(kv.store).toEqual(before);
    expect((await second.request("GET", "/v1/clusters/us/state")).body).toMatchObject({
      name: "us",
      problem: expect.stringContaining("has not come"),
    });
    const early = await second.request(
      "PUT",
      "/v1/clusters/eu/state?wait=true",
      state("eu.example", "10.0.0.9"),
    );
    expect(early.body).toMatchObject({ published: true, generation: 3 });
    expect(await pointer()).toMatchObject({ clusters: ["eu", "us"] });
    for (const [host, endpoint] of [
      ["eu.example", "10.0.0.9:8080"],
      ["us.example", "10.2.0.1:8080"],
    ] as const) {
      const { body } = await second.request("GET", `/v1/explain?url=http://${host}/`);
      expect(body.backend.endpoints).toEqual([endpoint]);
    }
    // The same state again, pushed at last, is what stood there all the time.
    kv.seen.length = 0;
    await second.request("PUT", "/v1/clusters/us/state?wait=true", state("us.example", "10.2.0.1"));
    expect(kv.seen).toEqual([]);
    expect((await second.request("GET", "/v1/clusters/us/state")).body.problem).toBeUndefined();
  });

  test("after a restart, a host stays with its owner until somebody older or the owner itself is heard", async () => {
    const first = await start();
    const push = (control: Running, cluster: string, ...words: Parameters<typeof state>) =>
      control.request("PUT", `/v1/clusters/${cluster}/state?wait=true`, state(...words));
    const ownerOf = async (control: Running): Promise<string> =>
      (await control.request("GET", "/v1/explain?url=http://shop.example/")).body.backend.endpoints[0];
    await push(first, "a", "shop.example", "10.1.0.1", "2026-02-01T00:00:00Z");
    await push(first, "b", "other.example", "10.2.0.1", "2026-01-01T00:00:00Z");
    await first.end();

    const second = await start();
    await until(async () => (await second.request("GET", "/readyz")).status === 200);
    await push(second, "b", "shop.example", "10.2.0.2", "2026-03-01T00:00:00Z");
    expect(await ownerOf(second)).toBe("10.1.0.1:8080");
    await push(second, "b", "shop.example", "10.2.0.3", "2026-01-01T00:00:00Z");
    expect(await ownerOf(second)).toBe("10.2.0.3:8080");
  });

  test("that were alone at the edge keep their hosts after a restart, too, secrets included", async () => {
    const guarded = JSON.parse(state("vault.example"));
    guarded.items[0].metadata.annotations = {
      "nginx.ingress.kubernetes.io/auth-type": "basic",
      "nginx.ingress.kubernetes.io/auth-secret": "users",
    };
    guarded.items.push({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "users", namespace: "shop" },
      data: { auth: btoa("ann:{SHA}/gXfpQVS3Kx/h3DTVGxDL6cTEe0=\n") },
    });
    const first = await start();
    await first.request("PUT", "/v1/clusters/eu/state?wait=true", JSON.stringify(guarded));
    await first.end();
    const before = new Map(kv.store);
    expect(shards()).toContain('"sealed"');

    const second = await start();
    await until(async () => (await second.request("GET", "/readyz")).status === 200);
    expect(kv.store).toEqual(before);
    await second.request("PUT", "/v1/clusters/us/state?wait=true", state("us.example", "10.2.0.1"));
    expect(await pointer()).toMatchObject({ clusters: ["eu", "us"] });
    const { body } = await second.request("GET", "/v1/explain?url=http://vault.example/");
    expect(body.backend.endpoints).toEqual(["10.0.0.1:8080"]);
    expect(shards()).toContain('"sealed"');
    expect(shards()).not.toContain("{SHA}");
  });

  test("of which nothing can be read back are waited for, so that none loses its hosts", async () => {
    const first = await start();
    await first.request("PUT", "/v1/clusters/eu/state?wait=true", state("eu.example"));
    await first.request("PUT", "/v1/clusters/us/state?wait=true", state("us.example"));
    await first.end();
    const before = kv.store.get(POINTER_KEY);
    for (const key of [...kv.store.keys()]) if (key.startsWith("s/")) kv.store.set(key, "torn");

    const second = await start();
    await until(async () => second.lines.some((line) => line.includes("cannot be read back")));
    const early = await second.request(
      "PUT",
      "/v1/clusters/eu/state?wait=true",
      state("eu.example", "10.0.0.9"),
    );
    expect(early.body).toMatchObject({ published: false, reason: "The state of us has not come yet." });
    expect(kv.store.get(POINTER_KEY)).toBe(before);
    await second.request("PUT", "/v1/clusters/us/state?wait=true", state("us.example"));
    expect(await pointer()).toMatchObject({ clusters: ["eu", "us"], generation: 3 });
    expect(shards()).toContain("10.0.0.9:8080");
  });

  test("of which one is gone for good: an operator says so", async () => {
    const first = await start();
    await first.request("PUT", "/v1/clusters/eu/state?wait=true", state("eu.example"));
    await first.request("PUT", "/v1/clusters/us/state?wait=true", state("us.example"));
    await first.end();
    const second = await start();
    await second.request("PUT", "/v1/clusters/eu/state?wait=true", state("eu.example"));
    expect((await second.request("DELETE", "/v1/clusters/us")).status).toBe(200);
    expect((await second.request("GET", "/readyz")).status).toBe(200);
    await second.request("PUT", "/v1/clusters/eu/state?wait=true", state("eu.example"));
    expect(await pointer()).toMatchObject({ clusters: ["eu"] });
  });
});

describe("two replicas", () => {
  test("take turns: the follower refuses pushes, and the new leader goes on from what is at the edge", async () => {
    const firstTerms = createNewest<Term>();
    const secondTerms = createNewest<Term>();
    const first = await start({}, { terms: firstTerms.values });
    const second = await start({}, { terms: secondTerms.values });
    expect((await first.request("PUT", "/v1/clusters/eu/state", state("eu.example"))).status).toBe(503);
    expect((await first.request("GET", "/readyz")).status).toBe(200);

    firstTerms.put({ kind: "lead", epoch: 1 });
    await until(
      async () =>
        (await first.request("PUT", "/v1/clusters/eu/state?wait=true", state("eu.example"))).status === 200,
    );
    await first.request("PUT", "/v1/clusters/us/state?wait=true", state("us.example"));
    expect(await pointer()).toMatchObject({ epoch: 1, generation: 2, clusters: ["eu", "us"] });
    expect((await second.request("PUT", "/v1/clusters/eu/state", state("eu.example"))).status).toBe(503);

    secondTerms.put({ kind: "lead", epoch: 2 });
    await until(
      async () =>
        (await second.request("PUT", "/v1/clusters/eu/state?wait=true", state("eu.example", "10.0.0.2")))
          .status === 200,
    );
    expect(await pointer()).toMatchObject({ epoch: 2, generation: 3, clusters: ["eu", "us"] });
    expect((await second.request("GET", "/v1/explain?url=http://us.example/")).body.answer).toBeUndefined();

    // The first one was never told that its term is over.
    await first.request("PUT", "/v1/clusters/eu/state?wait=true", state("eu.example", "10.0.0.3"));
    expect(await pointer()).toMatchObject({ epoch: 2, generation: 3 });
    expect((await first.request("PUT", "/v1/clusters/eu/state", state("eu.example"))).status).toBe(503);
  });

  test("a leader that leads again forgets what was pushed to it before: others may have had newer states", async () => {
    const firstTerms = createNewest<Term>();
    const secondTerms = createNewest<Term>();
    const first = await start({}, { terms: firstTerms.values });
    const second = await start({}, { terms: secondTerms.values });
    const push = (control: Running, cluster: string, endpoint: string) => async (): Promise<boolean> =>
      (
        await control.request(
          "PUT",
          `/v1/clusters/${cluster}/state?wait=true`,
          state(`${cluster}.example`, endpoint),
        )
      ).status === 200;
    firstTerms.put({ kind: "lead", epoch: 1 });
    await until(push(first, "eu", "10.0.0.1"));
    firstTerms.put({ kind: "follow" });
    secondTerms.put({ kind: "lead", epoch: 2 });
    await until(push(second, "eu", "10.0.0.2"));
    secondTerms.put({ kind: "follow" });
    firstTerms.put({ kind: "lead", epoch: 3 });
    await until(push(first, "us", "10.0.0.3"));
    expect(await pointer()).toMatchObject({ epoch: 3, clusters: ["eu", "us"] });
    const { body } = await first.request("GET", "/v1/explain?url=http://eu.example/");
    expect(body.backend.endpoints).toEqual(["10.0.0.2:8080"]);
  });
});

/** Asks again until the answer is yes. */
async function until(ask: () => Promise<boolean>): Promise<void> {
  while (!(await ask())) await new Promise((resolve) => setImmediate(resolve));
}

test("a state that is too large is refused before it is read, and changes nothing", async () => {
  const control = await start();
  await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example"));
  const writes = kv.store.get(POINTER_KEY);
  const { status, body } = await control.request(
    "PUT",
    "/v1/clusters/eu/state?wait=true",
    state("shop.example") + " ".repeat(100_000),
  );
  expect([status, body.error]).toEqual([413, "The state is larger than 100000 bytes."]);
  expect(kv.store.get(POINTER_KEY)).toBe(writes);
});

test("the log tells where the time of a publication went", async () => {
  const control = await start();
  await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example"));
  const line = control.lines.find((one) => one.includes(" published "));
  expect(line).toMatch(/ gatherMs=[\d.]+ compileMs=[\d.]+ waitedMs=[\d.]+ cutMs=[\d.]+ writeMs=[\d.]+$/);
  const { body } = await control.request("GET", "/metrics");
  for (const stage of ["gather", "compile", "wait", "cut", "write"])
    expect(body).toContain(`fairlead_control_stage_duration_seconds_count{stage="${stage}"} 1`);
});

describe("access", () => {
  test.each([
    ["no token", "", 401],
    ["a wrong token", "wrong-0123456789", 401],
    ["a prefix of the token", OPERATOR.slice(0, -1), 401],
  ])("with %s is refused below /v1 and granted to health and metrics", async (_, token, status) => {
    const control = await start();
    for (const path of ["/v1/status", "/v1/diagnostics", "/v1/generations", "/v1/nothing"]) {
      expect((await control.request("GET", path, undefined, token)).status).toBe(status);
    }
    for (const path of ["/healthz", "/metrics", "/openapi.json"]) {
      expect((await control.request("GET", path, undefined, token)).status).toBe(200);
    }
  });

  test("of a cluster's token ends at its own state", async () => {
    const control = await start();
    expect((await control.request("PUT", "/v1/clusters/eu/state", state("shop.example"), EU)).status).toBe(
      200,
    );
    expect((await control.request("GET", "/v1/clusters/eu/state", undefined, EU)).status).toBe(200);
    expect((await control.request("PUT", "/v1/clusters/us/state", state("shop.example"), EU)).status).toBe(
      403,
    );
    expect((await control.request("DELETE", "/v1/clusters/eu", undefined, EU)).status).toBe(403);
    expect((await control.request("GET", "/v1/status", undefined, EU)).status).toBe(403);
    expect((await control.request("POST", "/v1/generations/1/rollback", undefined, EU)).status).toBe(403);
  });

  test("without any token is for this machine's own names only", async () => {
    const control = await start({
      api: { tokens: { operator: undefined, clusters: new Map() }, maxBodyBytes: 1_000, loopbackOnly: true },
    });
    expect((await control.request("GET", "/v1/status", undefined, "")).status).toBe(200);
    const { port } = new URL(control.url);
    const { request } = await import("node:http");
    const status = await new Promise((resolve) => {
      request(
        { port, host: "127.0.0.1", path: "/v1/status", headers: { host: `attacker.example:${port}` } },
        (answer) => {
          answer.resume();
          resolve(answer.statusCode);
        },
      ).end();
    });
    expect(status).toBe(403);
  });
});

describe("generations", () => {
  test("come back on demand and hold newer states until resumed", async () => {
    const control = await start();
    for (const n of [1, 2, 3])
      await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example", `10.0.0.${n}`));
    expect((await control.request("GET", "/v1/generations")).body).toMatchObject({
      current: 3,
      generations: [{ generation: 3 }, { generation: 2 }, { generation: 1 }],
    });
    expect((await control.request("POST", "/v1/generations/9/rollback")).status).toBe(409);
    expect((await control.request("POST", "/v1/generations/x/rollback")).status).toBe(400);
    expect((await control.request("POST", "/v1/generations/1/rollback")).body).toMatchObject({
      generation: 4,
      pinned: 1,
    });
    await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example", "10.0.0.4"));
    expect((await pointer())?.generation).toBe(4);
    expect((await control.request("POST", "/v1/generations/resume")).status).toBe(200);
    await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example", "10.0.0.5"));
    expect((await pointer())?.generation).toBeGreaterThan(4);
    expect(shards()).toContain("10.0.0.5:8080");
  });
});

test("the day's budget of writes outlives a restart", async () => {
  const kvSettings = {
    baseUrl: kv.baseUrl,
    namespaceId: kv.namespaceId,
    token: kv.token,
    callsInFiveMinutes: 100_000,
    writesADay: 20,
  };
  const writesToday = async (control: Running): Promise<number> =>
    Number(
      /fairlead_control_kv_writes_today (\d+)/.exec((await control.request("GET", "/metrics")).body)?.[1],
    );
  const first = await start({ kv: kvSettings });
  for (const n of [1, 2, 3, 4])
    await first.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example", `10.0.0.${n}`));
  expect(await writesToday(first)).toBe(8);
  await first.end();

  const second = await start({ kv: kvSettings });
  await until(async () => (await second.request("GET", "/readyz")).status === 200);
  expect(await writesToday(second)).toBeGreaterThanOrEqual(8);
  // Half of the twenty are spent, so what comes now is spread over the rest of the day, and somebody is told.
  for (const n of [5, 6])
    await second.request("PUT", "/v1/clusters/eu/state", state("shop.example", `10.0.0.${n}`));
  await until(async () => second.lines.some((line) => line.includes("KV writes of this day are spent")));
  expect((await second.request("GET", "/v1/status")).body.publisher).toMatchObject({
    pending: true,
    lastError: expect.stringContaining("of 20 KV writes"),
  });
});

test("a dry run tells what it would write and writes nothing", async () => {
  const control = await start({ dryRun: true });
  await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example"));
  expect(kv.store.size).toBe(0);
  expect(control.lines.join("\n")).toMatch(
    /dry run: s\/[0-9a-f]{32} would be written[\s\S]*dry run: pointer would be written/,
  );
});

test("without a key for secrets it says so", async () => {
  const control = await start({ configKey: undefined });
  expect(control.lines.join()).toContain("FAIRLEAD_CONFIG_KEY is not set");
});

test("KV that fails at the start is tried until it answers, and the reason is told meanwhile", async () => {
  kv.fault = () => ({ kind: "status", status: 503 });
  const control = await start();
  await control.request("PUT", "/v1/clusters/eu/state", state("shop.example"));
  while (control.lines.length === 0) await new Promise((resolve) => setImmediate(resolve));
  expect((await control.request("GET", "/readyz")).body.reason).toContain("503");
  kv.fault = () => undefined;
  while ((await control.request("GET", "/readyz")).status !== 200)
    await new Promise((resolve) => setImmediate(resolve));
  await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example"));
  expect((await pointer())?.generation).toBe(1);
});

test("metrics are what Prometheus reads", async () => {
  const control = await start();
  await control.request("PUT", "/v1/clusters/eu/state?wait=true", state("shop.example"));
  const { body } = await control.request("GET", "/metrics");
  for (const line of (body as string).trimEnd().split("\n")) {
    expect(line).toMatch(
      /^# (HELP|TYPE) [a-z_]+ .+$|^[a-z_]+(\{([a-z_]+="([^"\\\n]|\\.)*",?)*\})? -?[0-9.e+-]+$/,
    );
  }
  expect(body).toContain('fairlead_control_publications_total{result="published"} 1');
  expect(body).toContain("fairlead_control_ready 1");
  expect(body).toContain("fairlead_control_kv_writes_total 2");
});

test("the OpenAPI document tells exactly the routes that there are", () => {
  const settings = {
    view: {} as never,
    tokens: { operator: OPERATOR, clusters: new Map() },
    maxBodyBytes: 1,
    loopbackOnly: false,
    onBug: () => {},
  };
  const served = createControlApi(settings)
    .routes.filter(({ method, path }) => method !== "ALL" && !path.includes("*"))
    .map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, "{$1}")}`);
  const told = Object.entries(openApiDocument.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(told.sort()).toEqual([...new Set(served)].sort());
});
