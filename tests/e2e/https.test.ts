/** The edge over TLS, as clients of `fairlead dev --protocol https` meet it. */

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { Readable } from "node:stream";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await Edge.start({
    args: ["--protocol", "https"],
    backends: {
      echo: 1,
      hash: (request, response) => {
        const hash = createHash("sha256");
        request
          .on("data", (chunk: Buffer) => hash.update(chunk))
          .on("end", () => response.end(hash.digest("hex")));
      },
    },
    manifests:
      ingress("echo", {
        host: "tls.example.com",
        annotations: { "ssl-redirect": "true" },
        tls: [{ hosts: ["tls.example.com"] }],
      }) +
      ingress("echo", { host: "small.example.com", annotations: { "proxy-body-size": "10" } }) +
      ingress("hash", { host: "hash.example.com", annotations: { "proxy-body-size": "0" } }),
  });
});

afterAll(() => edge?.stop());

test("pods learn that the client spoke https, and who it was", async () => {
  const reply = await edge.request({ host: "tls.example.com", path: "/a//b?x=1" });
  expect(reply.status).toBe(200);
  expect(reply.echo.url).toBe("/a//b?x=1");
  expect(reply.echo.headers).toMatchObject({
    host: "tls.example.com",
    "x-forwarded-proto": "https",
    "x-forwarded-port": edge.url.port,
    "x-real-ip": "127.0.0.1",
  });
});

test("the client's address as Cloudflare tells it counts", async () => {
  const reply = await edge.request({ host: "tls.example.com", clientAddress: "203.0.113.7" });
  expect(reply.echo.headers["x-real-ip"]).toBe("203.0.113.7");
});

test("a host that nobody has is 404", async () => {
  expect((await edge.request({ host: "nobody.example.com" })).status).toBe(404);
});

test("bodies stream, with and without a length", async () => {
  const body = randomBytes(10 * 1024 * 1024);
  const want = createHash("sha256").update(body).digest("hex");
  expect((await edge.request({ host: "hash.example.com", method: "POST", body })).text).toBe(want);
  expect(
    (await edge.request({ host: "hash.example.com", method: "POST", body: Readable.from([body]) })).text,
  ).toBe(want);
});

test("an answer that comes before a body was read reaches the client that is still sending", async () => {
  const body = Buffer.alloc(5_000_000);
  expect((await edge.request({ host: "small.example.com", method: "POST", body })).status).toBe(413);
});

test("HEAD, OPTIONS and unusual methods pass", async () => {
  expect((await edge.request({ host: "tls.example.com", method: "HEAD" })).bytes).toHaveLength(0);
  for (const method of ["OPTIONS", "DELETE", "PROPFIND"]) {
    expect((await edge.request({ host: "tls.example.com", method })).echo.method).toBe(method);
  }
});

test("a WebSocket echoes", async () => {
  const sockets = new WebSocketServer({ noServer: true });
  edge.backend("echo").onUpgrade = (request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (client) => {
      client.on("message", (data) => client.send(`${request.headers.host} ${String(data)}`));
    });
  };
  const client = new WebSocket(`wss://127.0.0.1:${edge.url.port}/chat`, {
    headers: { Host: "tls.example.com" },
    rejectUnauthorized: false,
  });
  await once(client, "open");
  client.send("hello");
  const [data] = (await once(client, "message")) as [Buffer];
  expect(data.toString()).toBe("tls.example.com hello");
  client.close();
  await once(client, "close");
});

test("a client that goes away ends the pod's request", async () => {
  const gone = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  const pod = edge.backend("echo");
  pod.onRequest = (_request, response) => {
    response.on("close", () => gone.resolve());
    arrived.resolve();
  };
  const leave = new AbortController();
  const asking = edge.open({ host: "tls.example.com", signal: leave.signal });
  await arrived.promise;
  leave.abort();
  await expect(asking).rejects.toThrow();
  await gone.promise;
  pod.onRequest = (request, response) => pod.echo(request, response);
});
