import { afterEach, beforeEach, expect, test } from "vitest";
import { createKvClient, type KvClient } from "../../control/kv/client.ts";
import { KvError } from "../../control/kv/kv-error.ts";
import { type KvServer, startKvServer } from "./kv-server.ts";

let server: KvServer;
let client: KvClient;

beforeEach(async () => {
  server = await startKvServer();
  client = createKvClient(server);
});
afterEach(() => server.close());

async function failureOf(promise: Promise<unknown>): Promise<KvError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(KvError);
  return error as KvError;
}

test("what is put is got, by keys of any spelling", async () => {
  await client.put("s/a b?c%2Fd", "välue");
  expect(await client.get("s/a b?c%2Fd")).toBe("välue");
  expect(await client.get("missing")).toBeUndefined();
  expect([...server.store]).toEqual([["s/a b?c%2Fd", "välue"]]);
});

test("many are put, listed over pages and deleted, in calls within the limits", async () => {
  const pairs = new Map(Array.from({ length: 10_050 }, (_, n) => [`s/${n}`, String(n)]));
  await client.putAll(pairs);
  expect(server.seen.map(({ keys }) => keys.length)).toEqual([10_000, 50]);
  await client.put("other", "x");
  expect([...(await client.list("s/"))].sort()).toEqual([...pairs.keys()].sort());
  await client.deleteAll([...pairs.keys(), "missing"]);
  expect([...server.store.keys()]).toEqual(["other"]);
});

test("keys that a bulk call left undone are sent again, at last one by one", async () => {
  server.fault = ({ operation }) => (operation === "bulk-put" ? { kind: "partial" } : undefined);
  const pairs = new Map(Array.from({ length: 10 }, (_, n) => [`s/${n}`, String(n)]));
  await client.putAll(pairs);
  expect(server.store).toEqual(pairs);
  expect(server.seen.map(({ operation, keys }) => [operation, keys.length])).toEqual([
    ["bulk-put", 10],
    ["bulk-put", 5],
    ["put", 1],
    ["put", 1],
    ["put", 1],
  ]);
});

test.each([
  ["500", { kind: "status", status: 500 }, "unavailable"],
  ["503", { kind: "status", status: 503 }, "unavailable"],
  ["400", { kind: "status", status: 400 }, "refused"],
  ["a cut connection", { kind: "cut" }, "network"],
  ["no answer", { kind: "hang" }, "timeout"],
  ["no JSON", { kind: "nonsense" }, "unavailable"],
] as const)("%s is a KvError of the right kind", async (_, fault, kind) => {
  server.fault = () => fault;
  const one = fault.kind === "hang" ? createKvClient({ ...server, timeoutMs: 50 }) : client;
  expect((await failureOf(one.put("k", "v"))).kind).toBe(kind);
  expect((await failureOf(one.putAll(new Map([["k", "v"]])))).kind).toBe(kind);
});

test("nobody listening, a wrong token and a wrong namespace are told apart", async () => {
  const stranger = createKvClient({ ...server, token: "wrong" });
  expect(await failureOf(stranger.list(""))).toMatchObject({ kind: "refused", status: 403 });
  const lost = createKvClient({ ...server, namespaceId: "../other" });
  expect(await failureOf(lost.list(""))).toMatchObject({ kind: "refused", status: 404 });
  await server.close();
  expect((await failureOf(client.get("k"))).kind).toBe("network");
});

test("after a 429 no call leaves until the lock-out is over", async () => {
  let nowMs = 1_000_000;
  const patient = createKvClient({ ...server, now: () => nowMs });
  server.fault = () => ({ kind: "status", status: 429, retryAfter: "300" });
  expect(await failureOf(patient.put("k", "v"))).toMatchObject({
    kind: "rate-limited",
    retryAfterMs: 300_000,
  });
  nowMs += 100_000;
  expect(await failureOf(patient.get("k"))).toMatchObject({ kind: "rate-limited", retryAfterMs: 200_000 });
  expect(server.seen).toHaveLength(1);
  nowMs += 200_000;
  server.fault = () => undefined;
  await patient.put("k", "v");
  expect(server.store.get("k")).toBe("v");
});

test("a 429 that does not say how long counts as Cloudflare's five minutes", async () => {
  server.fault = () => ({ kind: "status", status: 429 });
  expect((await failureOf(client.get("k"))).retryAfterMs).toBe(300_000);
});
