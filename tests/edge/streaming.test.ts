/** Bodies and connections that last: nothing is buffered, nothing is cut. */

import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { createServer as createTcpServer } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { configOf } from "./edge-config-of.ts";
import { EdgeUnderTest } from "./edge-under-test.ts";
import { ask, open } from "./http-client.ts";
import { Pod } from "./pod.ts";

const MEGABYTE = 1024 * 1024;

let edge: EdgeUnderTest;
let pod: Pod;
/** Ends the pod's open answer, and says when a client went away. */
let events:
  | { readonly push: (text: string) => void; readonly end: () => void; readonly closed: Promise<unknown> }
  | undefined;
let eventsOpened: (() => void) | undefined;

beforeAll(async () => {
  pod = await Pod.start("pod", (request, response) => {
    const url = new URL(request.url ?? "/", "http://pod");
    switch (url.pathname) {
      case "/down": {
        const chunk = Buffer.alloc(64 * 1024, "x");
        let left = Number(url.searchParams.get("bytes"));
        const write = (): void => {
          while (left > 0) {
            left -= chunk.length;
            if (!response.write(chunk)) return void response.once("drain", write);
          }
          response.end();
        };
        write();
        break;
      }
      case "/up": {
        let bytes = 0;
        request.on("data", (chunk: Buffer) => {
          bytes += chunk.length;
        });
        request.on("end", () => response.end(String(bytes)));
        break;
      }
      case "/first-byte":
        request.once("data", () => response.writeHead(200).write("got it\n"));
        request.on("end", () => response.end("all of it\n"));
        break;
      case "/events":
        response.writeHead(200, { "Content-Type": "text/event-stream" }).flushHeaders();
        events = {
          push: (text) => void response.write(`data: ${text}\n\n`),
          end: () => void response.end(),
          closed: once(response, "close"),
        };
        eventsOpened?.();
        break;
      case "/breaks":
        response.writeHead(200, { "Content-Length": "100" }).write("half");
        setImmediate(() => response.destroy());
        break;
      default:
        response.writeHead(404).end();
    }
  });
  const sockets = new WebSocketServer({
    server: pod.server,
    handleProtocols: (offered) => offered.has("chat") && "chat",
  });
  sockets.on("connection", (socket, request) => {
    socket.send(JSON.stringify({ url: request.url, host: request.headers["x-forwarded-host"] }));
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  const policies = { bodySize: { maxBytes: 0 } };
  edge = await EdgeUnderTest.start(
    configOf({ "shop.example.com": { "/": { endpoints: [pod.address], policies } } }),
  );
}, 30_000);

afterAll(async () => {
  await edge?.stop();
  await pod?.stop();
});

/** Resident memory of the Worker's process, in bytes. */
async function residentBytes(): Promise<number> {
  const { readFile } = await import("node:fs/promises");
  const status = await readFile(`/proc/${edge.process.pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
}

async function nextChunk(message: IncomingMessage): Promise<string> {
  const [chunk] = (await once(message, "data")) as [Buffer];
  return chunk.toString();
}

test("50 MB down, with bounded memory", async () => {
  await ask(edge.process.port, { path: "/down?bytes=65536" });
  const before = await residentBytes();
  const message = await open(edge.process.port, { path: `/down?bytes=${50 * MEGABYTE}` });
  let bytes = 0;
  for await (const chunk of message) bytes += (chunk as Buffer).length;
  expect(bytes).toBe(50 * MEGABYTE);
  expect((await residentBytes()) - before).toBeLessThan(30 * MEGABYTE);
});

test("50 MB up, with bounded memory", async () => {
  const before = await residentBytes();
  const request = httpRequest({
    host: "127.0.0.1",
    port: edge.process.port,
    method: "POST",
    path: "/up",
    headers: { Host: "shop.example.com" },
  });
  const answered = once(request, "response") as Promise<[IncomingMessage]>;
  const chunk = Buffer.alloc(64 * 1024, "x");
  for (let sent = 0; sent < 50 * MEGABYTE; sent += chunk.length) {
    if (!request.write(chunk)) await once(request, "drain");
  }
  request.end();
  const [message] = await answered;
  expect(await nextChunk(message)).toBe(String(50 * MEGABYTE));
  expect((await residentBytes()) - before).toBeLessThan(30 * MEGABYTE);
});

test("a pod that answers before the request has ended is heard at once", async () => {
  const request = httpRequest({
    host: "127.0.0.1",
    port: edge.process.port,
    method: "POST",
    path: "/first-byte",
    headers: { Host: "shop.example.com", "Transfer-Encoding": "chunked" },
  });
  const answered = once(request, "response") as Promise<[IncomingMessage]>;
  request.write("one");
  const [message] = await answered;
  expect(await nextChunk(message)).toBe("got it\n");
  request.end("two");
  expect(await nextChunk(message)).toBe("all of it\n");
});

test("server-sent events arrive one by one", async () => {
  const opened = new Promise<void>((resolve) => {
    eventsOpened = resolve;
  });
  const message = await open(edge.process.port, { path: "/events" });
  await opened;
  for (const text of ["one", "two", "three"]) {
    const arrived = nextChunk(message);
    events?.push(text);
    expect(await arrived).toBe(`data: ${text}\n\n`);
  }
  events?.end();
  await once(message.resume(), "end");
});

test("a client that goes away ends the pod's answer, at the latest when the pod next writes", async () => {
  const opened = new Promise<void>((resolve) => {
    eventsOpened = resolve;
  });
  const message = await open(edge.process.port, { path: "/events" });
  await opened;
  message.destroy();
  const pushing = setInterval(() => events?.push("still there?"), 10); // The runtime notices when it cannot write.
  await events?.closed;
  clearInterval(pushing);
});

test("an answer that breaks off at the pod breaks off at the client", async () => {
  const message = await open(edge.process.port, { path: "/breaks" });
  await expect(
    (async () => {
      for await (const _ of message);
    })(),
  ).rejects.toThrow();
});

test("a WebSocket echoes text and bytes, with its subprotocol, until either side closes", async () => {
  const socket = new WebSocket(`ws://127.0.0.1:${edge.process.port}/chat?room=1`, ["chat"], {
    headers: { Host: "shop.example.com" },
  });
  const next = async (): Promise<Buffer> => ((await once(socket, "message")) as [Buffer])[0];
  expect(JSON.parse((await next()).toString())).toEqual({ url: "/chat?room=1", host: "shop.example.com" });
  expect(socket.protocol).toBe("chat");
  for (const data of ["hello", Buffer.from([0, 255, 1]), "x".repeat(200_000)]) {
    const echoed = next();
    socket.send(data);
    expect((await echoed).toString("latin1")).toBe(data.toString("latin1"));
  }
  socket.close(4001, "bye");
  const [code, reason] = (await once(socket, "close")) as [number, Buffer];
  expect([code, reason.toString()]).toEqual([4001, "bye"]);
});

test("a WebSocket that the pod refuses gets the pod's answer", async () => {
  // Once the request is there: a socket that closes over unread bytes is reset, and the answer with it.
  const closed = createTcpServer((socket) =>
    socket.once("data", () => socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")),
  );
  await new Promise<void>((resolve) => closed.listen(0, "127.0.0.1", resolve));
  const refusing = await EdgeUnderTest.start(
    configOf({ "shop.example.com": { "/": [`127.0.0.1:${(closed.address() as AddressInfo).port}`] } }),
  );
  try {
    const socket = new WebSocket(`ws://127.0.0.1:${refusing.process.port}/`, {
      headers: { Host: "shop.example.com" },
    });
    const [, answer] = (await once(socket, "unexpected-response")) as [unknown, IncomingMessage];
    expect(answer.statusCode).toBe(401);
    socket.on("error", () => {});
    socket.terminate();
  } finally {
    await refusing.stop();
    closed.close();
  }
});
