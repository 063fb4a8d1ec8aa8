/** Bodies, events and tunnels pass through the running edge as they come. */

import { createHash, type Hash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { Edge, ingress } from "./support/edge.ts";

const MEGABYTE = 1024 * 1024;
const BODY_BYTES = 50 * MEGABYTE;
/** For 200 MB that pass: a fraction of them, and room for a garbage collector that takes its time. */
const MEMORY_GROWTH_BYTES = 60 * MEGABYTE;

let edge: Edge;

/** Called when the client has read what was sent so far. */
let sendNext: () => void = () => {};

beforeAll(async () => {
  edge = await Edge.start({
    backends: {
      echo: 1,
      hash: hashBody,
      download: (_request, response) => void sendBlocks(response),
      events: sendEventsOnDemand,
      socket: 1,
    },
    manifests: ["echo", "hash", "download", "events", "socket"]
      .map((service) =>
        ingress(service, { host: `${service}.example.com`, annotations: { "proxy-body-size": "0" } }),
      )
      .concat(ingress("echo", { host: "small.example.com", annotations: { "proxy-body-size": "10" } }))
      .join(""),
  });
  const sockets = new WebSocketServer({ noServer: true });
  edge.backend("socket").onUpgrade = (request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (client) => {
      client.on("message", (data, isBinary) => client.send(data, { binary: isBinary }));
    });
  };
});

afterAll(() => edge?.stop());

function hashBody(request: IncomingMessage, response: ServerResponse): void {
  const hash = createHash("sha256");
  let bytes = 0;
  request.on("data", (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  request.on("end", () => response.end(JSON.stringify({ bytes, sha256: hash.digest("hex") })));
}

async function sendBlocks(response: ServerResponse): Promise<void> {
  response.writeHead(200, { "Content-Type": "application/octet-stream" });
  for (const block of blocks()) if (!response.write(block)) await once(response, "drain");
  response.end();
}

function* blocks(): Generator<Buffer> {
  const block = randomBytes(MEGABYTE);
  for (let sent = 0; sent < BODY_BYTES; sent += block.length) {
    block.writeUInt32BE(sent, 0);
    yield block;
  }
}

function* hashed(parts: Iterable<Buffer>, hash: Hash): Generator<Buffer> {
  for (const part of parts) {
    hash.update(part);
    yield Buffer.from(part);
  }
}

function* chunksOf(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= 65_536) yield Buffer.alloc(Math.min(left, 65_536));
}

function sendEventsOnDemand(_request: IncomingMessage, response: ServerResponse): void {
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  response.flushHeaders();
  let number = 0;
  sendNext = () => {
    if (number < 5) response.write(`data: ${number++}\n\n`);
    else response.end();
  };
}

/** Resident memory of `fairlead dev` and of the processes that it started. */
function memoryOfEdge(): number {
  return processTree(edge.dev.pid)
    .map((pid) => {
      const pages = readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1];
      return Number(pages) * 4096;
    })
    .reduce((sum, bytes) => sum + bytes, 0);
}

function processTree(pid: number): readonly number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return [
    pid,
    ...(children === "" ? [] : children.split(" ").flatMap((child) => processTree(Number(child)))),
  ];
}

/**
 * The most that memory grows by while something runs again and again, looked at every 50 ms. The first run is for what any
 * program takes once: buffers, code, a heap of its working size.
 */
async function growthOverRuns(run: () => Promise<void>): Promise<number> {
  await run();
  const before = memoryOfEdge();
  let highest = before;
  const timer = setInterval(() => {
    highest = Math.max(highest, memoryOfEdge());
  }, 50);
  try {
    for (let i = 0; i < 4; i++) await run();
  } finally {
    clearInterval(timer);
  }
  return highest - before;
}

describe("50 MB", () => {
  test("go up, in bounded memory", async () => {
    const growth = await growthOverRuns(async () => {
      const hash = createHash("sha256");
      const body = Readable.from(hashed(blocks(), hash));
      const reply = await edge.request({ host: "hash.example.com", method: "POST", body });
      expect(reply.status).toBe(200);
      expect(JSON.parse(reply.text)).toEqual({ bytes: BODY_BYTES, sha256: hash.digest("hex") });
    });
    expect(growth).toBeLessThan(MEMORY_GROWTH_BYTES);
  });

  test("go up with a length that is known", async () => {
    const body = randomBytes(BODY_BYTES);
    const reply = await edge.request({ host: "hash.example.com", method: "PUT", body });
    expect(JSON.parse(reply.text)).toEqual({
      bytes: BODY_BYTES,
      sha256: createHash("sha256").update(body).digest("hex"),
    });
  });

  test("come down, in bounded memory", async () => {
    const growth = await growthOverRuns(async () => {
      let bytes = 0;
      const answer = await edge.open({ host: "download.example.com" });
      for await (const chunk of answer as AsyncIterable<Buffer>) bytes += chunk.length;
      expect(bytes).toBe(BODY_BYTES);
    });
    expect(growth).toBeLessThan(MEMORY_GROWTH_BYTES);
  });
});

test("server-sent events arrive one by one", async () => {
  const answer = await edge.open({ host: "events.example.com", headers: { Accept: "text/event-stream" } });
  expect(answer.headers["content-type"]).toBe("text/event-stream");
  const events: string[] = [];
  // The pod sends an event only after the one before it has been read here.
  sendNext();
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    events.push(chunk.toString());
    sendNext();
  }
  expect(events).toEqual([0, 1, 2, 3, 4].map((number) => `data: ${number}\n\n`));
});

test("a WebSocket echoes text and bytes, under the host that the client asked for", async () => {
  let seenHost: string | undefined;
  const { onUpgrade } = edge.backend("socket");
  edge.backend("socket").onUpgrade = (request, socket, head) => {
    seenHost = request.headers.host;
    onUpgrade(request, socket, head);
  };
  const client = new WebSocket(`ws://127.0.0.1:${edge.url.port}/chat?room=1`, {
    headers: { Host: "socket.example.com" },
  });
  await once(client, "open");
  const bytes = randomBytes(100_000);
  for (const [message, want] of [
    ["hello", "hello"],
    [bytes, bytes],
  ] as const) {
    client.send(message);
    const [data, isBinary] = (await once(client, "message")) as [Buffer, boolean];
    expect(isBinary ? data : data.toString()).toEqual(want);
  }
  client.close(4001, "done");
  const [code, reason] = (await once(client, "close")) as [number, Buffer];
  expect([code, reason.toString()]).toEqual([4001, "done"]);
  expect(seenHost).toBe("socket.example.com");
});

describe("methods", () => {
  test.each(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT"])(
    "%s passes with its body",
    async (method) => {
      const body = method === "GET" ? undefined : "some body";
      const reply = await edge.request({
        host: "echo.example.com",
        method,
        path: "/m",
        ...(body === undefined ? {} : { body }),
      });
      expect(reply.status).toBe(200);
      expect(reply.echo).toMatchObject({ method, url: "/m", body: body ?? "" });
    },
  );

  test("HEAD passes, and its answer has no body but the pod's length", async () => {
    edge.backend("echo").onRequest = (request, response) => {
      response.writeHead(200, { "Content-Length": "12345", "X-Method": request.method ?? "" });
      response.end();
    };
    const reply = await edge.request({ host: "echo.example.com", method: "HEAD" });
    expect(reply.status).toBe(200);
    expect(reply.headers).toMatchObject({ "content-length": "12345", "x-method": "HEAD" });
    expect(reply.bytes).toHaveLength(0);
    edge.backend("echo").onRequest = (request, response) => edge.backend("echo").echo(request, response);
  });
});

test.each([100_000, 1_048_577, 20 * MEGABYTE])(
  "an answer that comes before a body of %d bytes was read reaches the client that is still sending",
  async (bytes) => {
    for (const body of [Buffer.alloc(bytes), Readable.from(chunksOf(bytes))]) {
      const reply = await edge.request({ host: "small.example.com", method: "POST", body });
      expect(reply.status).toBe(413);
      expect(reply.text).toContain("413 Request Entity Too Large");
    }
  },
);

test("a client that goes away ends the pod's request", async () => {
  const gone = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  edge.backend("echo").onRequest = (request) => {
    request.on("close", () => gone.resolve());
    request.on("error", () => gone.resolve());
    arrived.resolve();
  };
  const leave = new AbortController();
  const asking = edge.open({ host: "echo.example.com", path: "/slow", signal: leave.signal });
  await arrived.promise;
  leave.abort();
  await expect(asking).rejects.toThrow();
  await gone.promise;
  edge.backend("echo").onRequest = (request, response) => edge.backend("echo").echo(request, response);
});
