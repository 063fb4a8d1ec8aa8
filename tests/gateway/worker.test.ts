/** The whole way: client → the real Worker in workerd → the embedded gateway → pod. */

import { once } from "node:events";
import { createServer, request as httpRequest, type IncomingMessage } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import WebSocket, { WebSocketServer } from "ws";
import type { EdgeConfig } from "../../edge-config/config.ts";
import { createTokenSigner, parseTokenKeys, TOKEN_HEADER } from "../../edge-config/gateway-token.ts";
import { type Gateway, startGateway } from "../../gateway/server.ts";
import { EdgeUnderTest } from "../edge/edge-under-test.ts";

const KEYS = `k1:${"a2V5".repeat(11)}`;
const OTHER_KEYS = `k1:${"eHh4".repeat(11)}`;

const pod = createServer(async (request, response) => {
  const body = await text(request);
  response.setHeader("content-type", "application/json");
  response.end(
    JSON.stringify({
      host: request.headers.host,
      url: request.url,
      method: request.method,
      names: Object.keys(request.headers),
      body,
    }),
  );
});
let gateway: Gateway;
let edge: EdgeUnderTest;
let podPort: number;
let deadPort: number;

function configWith(...endpoints: readonly string[]): EdgeConfig {
  return {
    version: 1,
    hosts: {
      "shop.example": {
        matching: "kubernetes",
        routes: [{ path: "/", pathType: "Prefix", ingress: "shop/web", backend: "shop/web:80" }],
      },
    },
    backends: { "shop/web:80": { namespace: "shop", service: "web", port: "80", endpoints } },
  };
}

beforeAll(async () => {
  const sockets = new WebSocketServer({ server: pod });
  sockets.on("connection", (socket, request) => {
    socket.send(String(request.headers.host));
    socket.on("message", (data) => socket.send(data));
  });
  await new Promise<void>((resolve) => pod.listen(0, "127.0.0.1", resolve));
  podPort = (pod.address() as AddressInfo).port;
  const dead = createTcpServer();
  await new Promise<void>((resolve) => dead.listen(0, "127.0.0.1", resolve));
  deadPort = (dead.address() as AddressInfo).port;
  await new Promise((resolve) => dead.close(resolve));
  gateway = await startGateway({ keys: parseTokenKeys(KEYS), allowedCidrs: [], allowLoopback: true });
  edge = await startEdge(KEYS, configWith(`127.0.0.1:${podPort}`, `127.0.0.1:${deadPort}`));
}, 60_000);

afterAll(async () => {
  await edge.stop();
  await gateway.close();
  pod.close();
  pod.closeAllConnections();
});

function startEdge(keys: string, config: EdgeConfig): Promise<EdgeUnderTest> {
  return EdgeUnderTest.start(config, {
    ORIGIN_TRANSPORT: "gateway",
    GATEWAY_URL: gateway.url,
    FAIRLEAD_GATEWAY_KEYS: keys,
  });
}

async function send(
  one: EdgeUnderTest,
  path: string,
  method = "GET",
  body?: string,
): Promise<{ status: number; body: string }> {
  const request = httpRequest(`${one.origin}${path}`, { method, headers: { host: "shop.example" } });
  request.end(body);
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  return { status: answer.statusCode ?? 0, body: await text(answer) };
}

test("the pod sees the client's Host and nothing of the gateway, and a dead endpoint costs no request", async () => {
  for (let n = 0; n < 30; n++) {
    const answer = await send(
      edge,
      `/cart?n=${n}`,
      n % 2 === 0 ? "GET" : "POST",
      n % 2 === 0 ? undefined : "hello",
    );
    expect(answer.status).toBe(200);
    const seen = JSON.parse(answer.body);
    expect(seen).toMatchObject({
      host: "shop.example",
      url: `/cart?n=${n}`,
      body: n % 2 === 0 ? "" : "hello",
    });
    expect(seen.names).not.toContain("fairlead-token");
    expect(seen.names).not.toContain("cf-worker");
  }
});

test("a WebSocket echoes through all of it", async () => {
  const only = await startEdge(KEYS, configWith(`127.0.0.1:${podPort}`));
  try {
    const socket = new WebSocket(`${only.origin.replace("http", "ws")}/chat`, {
      headers: { host: "shop.example" },
    });
    const [greeting] = (await once(socket, "message")) as [Buffer];
    expect(greeting.toString()).toBe("shop.example");
    socket.send("echo");
    const [echo] = (await once(socket, "message")) as [Buffer];
    expect(echo.toString()).toBe("echo");
    socket.close();
    await once(socket, "close");
  } finally {
    await only.stop();
  }
});

test("a Worker with other keys reaches no pod", async () => {
  const stranger = await startEdge(OTHER_KEYS, configWith(`127.0.0.1:${podPort}`));
  try {
    expect((await send(stranger, "/")).status).toBe(502);
  } finally {
    await stranger.stop();
  }
});

test("a token may ask for a longer or shorter wait for the connection than the gateway's own", async () => {
  const silent = createTcpServer(() => {}); // Takes the connection and never says its part of the handshake.
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port } = silent.address() as AddressInfo;
  const signer = createTokenSigner(parseTokenKeys(KEYS));
  const token = await signer.sign(
    { address: "127.0.0.1", port, scheme: "https", host: "shop.example", connectTimeoutMs: 300 },
    Date.now(),
  );
  const request = httpRequest(gateway.url, { headers: { [TOKEN_HEADER]: token } }).end();
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  // The gateway's own is 5 seconds.
  expect([answer.statusCode, await text(answer)]).toEqual([502, expect.stringContaining("within 300 ms")]);
  silent.close();
});
