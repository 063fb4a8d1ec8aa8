/** What happens when endpoints do not answer, and where a second attempt is safe. */

import type { AddressInfo } from "node:net";
import { createServer, type Server, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { configOf } from "./edge-config-of.ts";
import { EdgeUnderTest } from "./edge-under-test.ts";
import { type Ask, ask, type Reply } from "./http-client.ts";
import { Pod } from "./pod.ts";

let good: Pod;
let edge: EdgeUnderTest;
const closing: (() => void)[] = [];

beforeAll(async () => {
  good = await Pod.start("good");
  // Every request looks for a newer configuration first: what a test publishes serves at once.
  edge = await EdgeUnderTest.start(undefined, { REFRESH_SECONDS: "0", MAX_STALE_SECONDS: "0" });
}, 30_000);

afterAll(async () => {
  await edge?.stop();
  await good?.stop();
});

afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** A TCP server as an endpoint; counts its connections. */
async function endpoint(
  onConnection: (socket: Socket) => void,
): Promise<{ readonly address: string; count: number }> {
  const result = { address: "", count: 0 };
  const server: Server = createServer((socket) => {
    result.count++;
    socket.on("error", () => {});
    closing.push(() => socket.destroy());
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => server.close());
  result.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return result;
}

/** Nobody listens there. */
async function refusing(): Promise<string> {
  const { address } = await endpoint(() => {});
  closing.pop()?.();
  return address;
}

/** Asks a backend of these endpoints several times, so that each of them gets its turn at being the first. */
async function askAll(endpoints: readonly string[], what: Ask = {}, times = 6): Promise<readonly Reply[]> {
  await edge.publish(configOf({ "shop.example.com": { "/": endpoints } }));
  const replies: Reply[] = [];
  for (let time = 0; time < times; time++) replies.push(await ask(edge.process.port, what));
  return replies;
}

const statuses = (replies: readonly Reply[]): readonly number[] => replies.map(({ status }) => status);
const all = (status: number, times = 6): readonly number[] => Array.from({ length: times }, () => status);

/** Takes the connection and closes it when the request comes: a pod that died in the middle. */
const dying = () => endpoint((socket) => socket.once("data", () => socket.destroy()));

describe("turns", () => {
  test.each([3, 5, 7])("%i endpoints get equal shares", async (count) => {
    const pods = await Promise.all(Array.from({ length: count }, (_, at) => Pod.start(`p${at}`)));
    try {
      const replies = await askAll(
        pods.map(({ address }) => address),
        {},
        count * 6,
      );
      const counts = new Map<string, number>();
      for (const { headers } of replies)
        counts.set(String(headers["x-pod"]), (counts.get(String(headers["x-pod"])) ?? 0) + 1);
      expect([...counts.values()]).toEqual(Array.from({ length: count }, () => 6));
    } finally {
      await Promise.all(pods.map((pod) => pod.stop()));
    }
  });
});

describe("an endpoint that refuses or breaks", () => {
  test("loses no idempotent request while another one answers", async () => {
    const bad = [await refusing(), (await dying()).address];
    for (const method of ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]) {
      expect(statuses(await askAll([...bad, good.address], { method }))).toEqual(all(200));
    }
  });

  test("a small body of known length is sent again, whole", async () => {
    const bad = await dying();
    const body = "x".repeat(60_000);
    const replies = await askAll([bad.address, good.address], { method: "PUT", body });
    expect(statuses(replies)).toEqual(all(200));
    expect(bad.count).toBeGreaterThan(0);
    for (const reply of replies)
      expect(JSON.parse(reply.body.toString())).toMatchObject({ bodyLength: 60_000 });
    expect(JSON.parse(replies[0]?.body.toString() ?? "")).toMatchObject({
      headers: { "content-length": "60000" },
    });
  });

  test("one of unknown length is not", async () => {
    const bad = await dying();
    const replies = await askAll([bad.address, good.address], {
      method: "PUT",
      body: "abc",
      headers: { "Transfer-Encoding": "chunked" },
    });
    expect(new Set(statuses(replies))).toEqual(new Set([200, 502]));
    expect(statuses(replies).filter((status) => status === 502)).toHaveLength(bad.count);
  });

  test.each(["POST", "PATCH", "LOCK"])(
    "%s may have reached the pod, so it is not sent again",
    async (method) => {
      const bad = await dying();
      const replies = await askAll([bad.address, good.address], { method, body: "abc" });
      // Each request that met the bad pod is a 502, and none met it twice; then the pod is put aside.
      expect(bad.count).toBeGreaterThan(0);
      expect(statuses(replies).filter((status) => status === 502)).toHaveLength(bad.count);
    },
  );

  test("502 when there is no other one, after three tries", async () => {
    const bad = await dying();
    expect(statuses(await askAll([bad.address], {}, 1))).toEqual([502]);
    expect(bad.count).toBe(3);
    expect(statuses(await askAll([await refusing()], {}, 2))).toEqual([502, 502]);
  });

  test("a pod's own 5xx is its answer, and passes", async () => {
    const failing = await Pod.start("failing", (_request, response) =>
      response.writeHead(503, { "X-Own": "1" }).end("own"),
    );
    try {
      const replies = await askAll([failing.address], {}, 1);
      expect([replies[0]?.status, replies[0]?.headers["x-own"], replies[0]?.body.toString()]).toEqual([
        503,
        "1",
        "own",
      ]);
    } finally {
      await failing.stop();
    }
  });
});
