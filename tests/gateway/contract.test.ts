/** `gateway/README.md` as a test, over real sockets, for every implementation. */

import { once } from "node:events";
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type RequestListener,
  type Server,
} from "node:http";
import {
  createSecureServer as createHttp2SecureServer,
  createServer as createHttp2Server,
  type Http2Server,
} from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Socket,
  type Server as TcpServer,
} from "node:net";
import { text } from "node:stream/consumers";
import type { TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import WebSocket, { WebSocketServer } from "ws";
import {
  createTokenSigner,
  GATEWAY_ERROR_HEADER,
  type GatewayTarget,
  parseTokenKeys,
  TARGET_HEADER,
  TOKEN_HEADER,
} from "../../edge-config/gateway-token.ts";
import { type Authority, type Certificate, createAuthority } from "./certificates.ts";
import { implementations, type RunningGateway } from "./implementations.ts";

const OLD_KEY = `old:${"b2xk".repeat(11)}`;
const NEW_KEY = `new:${"bmV3".repeat(11)}`;
const STRANGE_KEY = `new:${"eHh4".repeat(11)}`;

let authority: Authority & { readonly close: () => Promise<void> };
let podCertificate: Certificate;
let clientCertificate: Certificate;

beforeAll(async () => {
  authority = await createAuthority();
  podCertificate = await authority.issue("pod.example");
  clientCertificate = await authority.issue("gateway");
});
afterAll(() => authority.close());

/** What a test started, ended after it in turn. */
const cleanUps: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function listen(server: TcpServer | Http2Server): Promise<number> {
  const sockets = new Set<Socket>();
  (server as TcpServer).on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUps.push(() => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of sockets) socket.destroy();
    return closed;
  });
  return (server.address() as AddressInfo).port;
}

/** A pod that answers with `answer`. */
async function pod(answer: RequestListener): Promise<{ readonly port: number; readonly server: Server }> {
  const server = createServer(answer);
  return { port: await listen(server), server };
}

async function closedPort(): Promise<number> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function sign(target: Partial<GatewayTarget>, key = NEW_KEY, nowMs = Date.now()): Promise<string> {
  const whole: GatewayTarget = {
    address: "127.0.0.1",
    port: 1,
    scheme: "http",
    host: "shop.example",
    ...target,
  };
  return Promise.resolve(createTokenSigner(parseTokenKeys(key)).sign(whole, nowMs));
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly rawHeaders: readonly string[];
  readonly trailers: IncomingMessage["trailers"];
  readonly body: string;
}

interface Sent {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: string;
}

describe.each(implementations)("the $name gateway", (implementation) => {
  beforeEach(({ skip }) => skip(!implementation.isInstalled, `${implementation.name} is not installed`));

  async function start(
    allowedCidrs: readonly string[] = ["0.0.0.0/0"],
    allowLoopback = true,
    connectTimeoutMs = 500,
  ): Promise<RunningGateway> {
    const gateway = await implementation.start({
      keys: `${NEW_KEY},${OLD_KEY}`,
      allowedCidrs,
      allowLoopback,
      connectTimeoutMs,
      tlsSecrets: new Map([
        ["shop/ca", { ca: authority.ca }],
        ["shop/mutual", { ca: authority.ca, ...clientCertificate }],
      ]),
    });
    cleanUps.push(() => gateway.close());
    return gateway;
  }

  /** Sends one request and reads the whole answer. */
  async function send(gateway: RunningGateway, token: string | undefined, sent: Sent = {}): Promise<Answer> {
    const request = httpRequest(gateway.url, {
      method: sent.method ?? "GET",
      path: sent.path ?? "/",
      headers: { ...sent.headers, ...(token === undefined ? {} : { [TOKEN_HEADER]: token }) },
    });
    request.end(sent.body);
    const [answer] = (await once(request, "response")) as [IncomingMessage];
    const body = await text(answer);
    const { statusCode = 0, headers, rawHeaders, trailers } = answer;
    return { status: statusCode, headers, rawHeaders, trailers, body };
  }

  /** Starts a gateway and a pod, sends one request through, and returns what each side saw. */
  async function through(
    answer: RequestListener,
    sent: Sent = {},
    target: Partial<GatewayTarget> = {},
  ): Promise<Answer> {
    const { port } = await pod(answer);
    return send(await start(), await sign({ port, ...target }), sent);
  }

  describe("refuses", () => {
    const cases: readonly [string, () => undefined | string | Promise<string>, string][] = [
      ["no token", () => undefined, "token"],
      ["an unreadable token", () => "a.b.c", "token"],
      ["a token by a foreign key with a known id", () => sign({}, STRANGE_KEY), "token"],
      ["a token by an unknown key", () => sign({}, STRANGE_KEY.replace("new:", "other:")), "token"],
      ["an expired token", () => sign({}, NEW_KEY, Date.now() - 121_000), "expired"],
      ["an address outside the CIDRs", () => sign({ address: "10.2.0.1" }), "address"],
      ["the cloud's metadata address", () => sign({ address: "169.254.169.254" }), "address"],
      ["loopback, unless told", () => sign({ address: "127.0.0.1" }), "address"],
      ["loopback in IPv6", () => sign({ address: "::1" }), "address"],
      ["loopback as mapped IPv6", () => sign({ address: "::ffff:7f00:1" }), "address"],
      ["the unspecified address", () => sign({ address: "0.0.0.0" }), "address"],
    ];
    test.each(cases)("%s with 403", async (_, token, error) => {
      const gateway = await start(["10.1.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "::/0"], false);
      const answer = await send(gateway, await token());
      expect([answer.status, answer.headers[GATEWAY_ERROR_HEADER]]).toEqual([403, error]);
    });

    test("two tokens, of which one may be good", async () => {
      const { port } = await pod((_, response) => response.end("reached"));
      const token = await sign({ port });
      const answer = await send(await start(), undefined, { headers: { [TOKEN_HEADER]: [token, "x"] } });
      expect([answer.status, answer.headers[GATEWAY_ERROR_HEADER]]).toEqual([403, "token"]);
    });

    test("a token of which anything was changed, before and after the right one was accepted", async () => {
      const { port } = await pod((_, response) => response.end("reached"));
      const gateway = await start();
      const token = await sign({ port });
      const fields = token.split("|");
      const changed = fields.map((field, at) => {
        const other = `${field.startsWith("A") ? "B" : "A"}${field.slice(1)}`;
        return fields.with(at, other).join("|");
      });
      const forged = [...changed, `${token}|`, `${token}x`, token.slice(0, -1), `x${token}`, `|${token}`];
      const refusesAll = async (): Promise<void> => {
        for (const one of forged) expect((await send(gateway, one)).status, one).toBe(403);
      };
      await refusesAll();
      expect((await send(gateway, token)).body).toBe("reached");
      await refusesAll();
    });

    test("a token that was accepted before, once its time is over", async () => {
      const { port } = await pod((_, response) => response.end("reached"));
      const gateway = await start();
      const token = await sign({ port }, NEW_KEY, Date.now() - 105_000);
      expect((await send(gateway, token)).body).toBe("reached");
      await vi.waitFor(
        async () => expect((await send(gateway, token)).headers[GATEWAY_ERROR_HEADER]).toBe("expired"),
        { timeout: 40_000, interval: 200 },
      );
    });
  });

  describe("a target in a header", () => {
    test.each(["/x/../a/./b", "/%2e%2E/", "/a\\b|{}^`<>\"?y='..", "//a//b"])(
      "%s reaches the pod as it is",
      async (target) => {
        const seen = await through(
          (request, response) =>
            response.end(`${request.url} ${request.headers[TARGET_HEADER] ?? "taken off"}`),
          { path: "/plain", headers: { [TARGET_HEADER]: target } },
        );
        expect(seen.body).toBe(`${target} taken off`);
      },
    );

    test.each(["x", "http://other.example/", "/a b", ""])("%j is refused", async (target) => {
      const answer = await through((_, response) => response.end("reached"), {
        headers: { [TARGET_HEADER]: target },
      });
      expect([answer.status, answer.headers[GATEWAY_ERROR_HEADER]]).toEqual([403, "token"]);
    });
  });

  test("accepts both keys during a rotation, and one token for many requests", async () => {
    const { port } = await pod((_, response) => response.end("reached"));
    const gateway = await start();
    for (const key of [OLD_KEY, NEW_KEY]) {
      const token = await sign({ port }, key);
      for (let n = 0; n < 3; n++) expect((await send(gateway, token)).body).toBe("reached");
    }
  });

  test("restores Host and passes method, path and query byte by byte", async () => {
    const path = "/a%2Fb/../c//d;x=1?q=%20&r=a|b'\"<>";
    const answer = await through(
      (request, response) =>
        response.end(JSON.stringify([request.method, request.url, request.headers.host])),
      { method: "PROPFIND", path },
      { host: "shop.example:8443" },
    );
    expect(JSON.parse(answer.body)).toEqual(["PROPFIND", path, "shop.example:8443"]);
  });

  test("passes headers with repetitions, and takes its own and the connection's off", async () => {
    const answer = await through(
      (request, response) => {
        response.writeHead(201, "Made", [
          ...["X-Twice", "1", "x-other", "o", "X-Twice", "2", "Set-Cookie", "a=1", "Set-Cookie", "b=2"],
          ...[
            "Fairlead-Gateway-Error",
            "connect",
            "Keep-Alive",
            "timeout=9",
            "Connection",
            "close, X-Pod-Hop, Pod-Hop",
          ],
          ...["Pod-Hop", "1"],
        ]);
        response.end(JSON.stringify(request.rawHeaders));
      },
      {
        headers: {
          "X-Twice": ["1", "2"],
          "CF-Worker": "example.com",
          "CF-EW-Via": "15",
          "X-Forwarded-For": "203.0.113.7",
          "Accept-Encoding": "br, gzip",
          Connection: "close, Hop, X-Forwarded-For",
          Hop: "1",
          TE: "trailers",
        },
      },
    );
    const seen = JSON.parse(answer.body) as string[];
    const names = seen.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase());
    expect(seen.filter((_, at) => seen[at - 1]?.toLowerCase() === "x-twice")).toEqual(["1", "2"]);
    expect(seen[names.indexOf("x-forwarded-for") * 2 + 1]).toBe("203.0.113.7");
    expect(seen[names.indexOf("accept-encoding") * 2 + 1]).toBe("br, gzip");
    expect(
      names.filter((name) => ["cf-worker", "cf-ew-via", "hop", "te", TOKEN_HEADER].includes(name)),
    ).toEqual([]);
    if (implementation.keepsSpelling) expect(seen).toContain("X-Twice");

    expect(answer.status).toBe(201);
    expect(answer.headers["set-cookie"]).toEqual(["a=1", "b=2"]);
    expect(answer.headers["x-twice"]).toBe("1, 2");
    expect(answer.headers[GATEWAY_ERROR_HEADER]).toBeUndefined();
    expect(answer.headers["pod-hop"]).toBeUndefined();
    expect(answer.headers["keep-alive"]).not.toBe("timeout=9");
  });

  test.each([200, 204, 301, 304, 403, 404, 500, 502, 503])(
    "passes a pod's own %i on, without an error of its own",
    async (status) => {
      const answer = await through((_, response) => response.writeHead(status, { "x-pod": "yes" }).end());
      expect([answer.status, answer.headers["x-pod"], answer.headers[GATEWAY_ERROR_HEADER]]).toEqual([
        status,
        "yes",
        undefined,
      ]);
    },
  );

  test.each(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "REPORT"])(
    "passes %s without a body",
    async (method) => {
      const answer = await through(
        (request, response) => {
          request.resume().once("end", () => {
            response.writeHead(200, {
              "x-method": request.method,
              "x-framing": request.headers["transfer-encoding"] ?? "none",
              "content-length": "4",
            });
            response.end(method === "HEAD" ? undefined : "body");
          });
        },
        { method },
      );
      expect(answer.headers).toMatchObject({ "x-method": method, "content-length": "4" });
      expect(answer.body).toBe(method === "HEAD" ? "" : "body");
    },
  );

  test.each([
    ["of known length", { "content-length": "11" }],
    ["in chunks", { "transfer-encoding": "chunked" }],
  ])("passes a body %s on, framed alike", async (_, headers) => {
    const answer = await through(
      async (request, response) => {
        const { "content-length": length, "transfer-encoding": encoding } = request.headers;
        response.end(JSON.stringify([await text(request), length ?? null, encoding ?? null]));
      },
      { method: "POST", headers, body: "hello world" },
    );
    const chunked = "transfer-encoding" in headers;
    expect(JSON.parse(answer.body)).toEqual([
      "hello world",
      chunked ? null : "11",
      chunked ? "chunked" : null,
    ]);
  });

  test("sends the pod's events on one by one", async () => {
    let next: () => void = () => {};
    const { port } = await pod(async (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.flushHeaders();
      for (let n = 0; n < 3; n++) {
        await new Promise<void>((resolve) => (next = resolve)); // Not before the client has the one before.
        response.write(`data: ${n}\n\n`);
      }
      response.end();
    });
    const gateway = await start();
    const request = httpRequest(gateway.url, { headers: { [TOKEN_HEADER]: await sign({ port }) } }).end();
    const [answer] = (await once(request, "response")) as [IncomingMessage]; // The head comes before any event.
    answer.setEncoding("utf8");
    const events: unknown[] = [];
    next();
    for await (const event of answer) {
      events.push(event);
      next();
    }
    expect(events).toEqual(["data: 0\n\n", "data: 1\n\n", "data: 2\n\n"]);
  });

  test("streams 50 MB up and down", async () => {
    const size = 50 * 1024 * 1024;
    const { port } = await pod((request, response) => {
      response.writeHead(200, { "content-length": String(size) });
      request.pipe(response);
    });
    const gateway = await start();
    const request = httpRequest(gateway.url, {
      method: "POST",
      headers: { [TOKEN_HEADER]: await sign({ port }), "content-length": String(size) },
    });
    const answered = once(request, "response") as Promise<[IncomingMessage]>;
    const block = Buffer.alloc(1024 * 1024, "x");
    void (async () => {
      for (let n = 0; n < 50; n++) if (!request.write(block)) await once(request, "drain");
      request.end();
    })();
    const [answer] = await answered;
    let received = 0;
    for await (const part of answer) received += (part as Buffer).length;
    expect(received).toBe(size);
  });

  test.each(["down", "up"])("holds a stream back when the reader stops (%s)", async (direction) => {
    const block = Buffer.alloc(64 * 1024, "x");
    /** Writes until the stream takes no more for as long as a second write would need, and tells how much it took. */
    const fill = async (stream: {
      write: (part: Buffer) => boolean;
      once: (event: "drain", then: () => void) => unknown;
    }): Promise<number> => {
      let written = 0;
      while (written < 512 * 1024 * 1024) {
        written += block.length;
        if (stream.write(block)) continue;
        const drained = await new Promise<boolean>((resolve) => {
          const timer = setTimeout(() => resolve(false), 500);
          stream.once("drain", () => {
            clearTimeout(timer);
            resolve(true);
          });
        });
        if (!drained) break;
      }
      return written;
    };
    let filled: (written: number) => void = () => {};
    const written = new Promise<number>((resolve) => (filled = resolve));
    const { port } = await pod((request, response) => {
      if (direction === "up") request.pause();
      else void fill(response).then(filled);
    });
    const gateway = await start();
    const request = httpRequest(gateway.url, {
      method: direction === "up" ? "POST" : "GET",
      headers: { [TOKEN_HEADER]: await sign({ port }) },
    });
    request.on("error", () => {}); // Cut at the end of the test.
    if (direction === "up") void fill(request).then(filled);
    else request.end();
    if (direction === "down") request.once("response", (answer) => answer.pause());
    // What fits into the sockets' buffers, and far from all of it.
    expect(await written).toBeLessThan(64 * 1024 * 1024);
    request.destroy();
  });

  test("passes trailers both ways", async () => {
    const { port } = await pod((request, response) => {
      request.resume().once("end", () => {
        response.writeHead(200, { trailer: "X-Sum" });
        response.write("body");
        response.addTrailers({ "X-Sum": request.trailers["x-check"] ?? "none" });
        response.end();
      });
    });
    const gateway = await start();
    const request = httpRequest(gateway.url, {
      method: "POST",
      headers: {
        [TOKEN_HEADER]: await sign({ port }),
        trailer: "X-Check",
        "transfer-encoding": "chunked",
        te: "trailers",
      },
    });
    request.write("x");
    request.addTrailers({ "X-Check": "42" });
    request.end();
    const [answer] = (await once(request, "response")) as [IncomingMessage];
    await text(answer);
    expect(answer.trailers["x-sum"]).toBe("42");
  });

  test("passes an answer on that comes before the body was read", async () => {
    const { port } = await pod((_, response) => {
      response.writeHead(413, { connection: "close" });
      response.end("too large");
    });
    const gateway = await start();
    const request = httpRequest(gateway.url, {
      method: "POST",
      headers: { [TOKEN_HEADER]: await sign({ port }), "content-length": String(1e9) },
    });
    request.on("error", () => {}); // The connection is of no more use.
    request.write("x".repeat(10_000));
    const [answer] = (await once(request, "response")) as [IncomingMessage];
    expect([answer.statusCode, await text(answer)]).toEqual([413, "too large"]);
    request.destroy();
  });

  describe("when the pod fails", () => {
    test("a refused connection is 502 `connect`", async () => {
      const answer = await send(await start(), await sign({ port: await closedPort() }), {
        method: "POST",
        body: "x",
      });
      expect([answer.status, answer.headers[GATEWAY_ERROR_HEADER]]).toEqual([502, "connect"]);
    });

    test("a connection that is not taken in time is 502 `connect`", async () => {
      const silent = createTcpServer(() => {}); // Takes the connection and never says its part of the handshake.
      const answer = await send(await start(), await sign({ port: await listen(silent), scheme: "https" }));
      expect([answer.status, answer.headers[GATEWAY_ERROR_HEADER]]).toEqual([502, "connect"]);
    });

    test("a connection that ends without an answer is 502 `response`", async () => {
      const server = createTcpServer((socket) => socket.once("data", () => socket.destroy()));
      const answer = await send(await start(), await sign({ port: await listen(server) }), {
        method: "POST",
        body: "x",
      });
      expect([answer.status, answer.headers[GATEWAY_ERROR_HEADER]]).toEqual([502, "response"]);
    });

    test("something that is no HTTP is 502 `response`", async () => {
      const server = createTcpServer((socket) => {
        socket.on("error", () => {}); // Whoever asked may reset.
        socket.once("data", () => socket.end("220 mail ready\r\n"));
      });
      const answer = await send(await start(), await sign({ port: await listen(server) }), {
        method: "POST",
        body: "x",
      });
      expect([answer.status, answer.headers[GATEWAY_ERROR_HEADER]]).toEqual([502, "response"]);
    });

    test.each([
      ["of known length", { "content-length": "1000" }],
      ["in chunks", {}],
    ])("a body %s that breaks off never looks complete", async (_, headers) => {
      const { port } = await pod((_request, response) => {
        response.writeHead(200, headers);
        response.write("half", () => response.destroy());
      });
      const gateway = await start();
      const request = httpRequest(gateway.url, { headers: { [TOKEN_HEADER]: await sign({ port }) } }).end();
      const [answer] = (await once(request, "response")) as [IncomingMessage];
      await expect(text(answer)).rejects.toThrow();
      expect(answer.complete).toBe(false);
    });

    test("its connection is closed when the Worker goes away", async () => {
      let closed: () => void = () => {};
      const podSawClose = new Promise<void>((resolve) => (closed = resolve));
      const { port } = await pod((request, response) => {
        request.once("close", closed);
        response.write("first");
      });
      const gateway = await start();
      const request = httpRequest(gateway.url, { headers: { [TOKEN_HEADER]: await sign({ port }) } }).end();
      const [answer] = (await once(request, "response")) as [IncomingMessage];
      answer.on("error", () => {});
      answer.destroy();
      await podSawClose;
    });
  });

  describe("connections to pods", () => {
    test("are reused", async () => {
      const { port, server } = await pod((_, response) => response.end("ok"));
      let connections = 0;
      server.on("connection", () => connections++);
      const gateway = await start();
      const token = await sign({ port });
      for (let n = 0; n < 20; n++) expect((await send(gateway, token)).status).toBe(200);
      expect(connections).toBeLessThan(5);
    });

    test("that pods close while idle fail no request", async () => {
      // The pod closes right after each answer without having said so: every reuse meets a dead connection.
      const { port } = await pod((_, response) => {
        response.end("ok", () => setImmediate(() => response.socket?.destroy()));
      });
      const gateway = await start();
      const token = await sign({ port });
      for (let n = 0; n < 100; n++) {
        const answer = await send(gateway, token, { method: n % 2 === 0 ? "GET" : "POST" });
        expect(answer.status).toBe(200);
      }
    });
  });

  describe("WebSockets", () => {
    /** RFC 6455 §4.1 wants all of these. */
    const HANDSHAKE = {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    };

    async function echoPod(): Promise<number> {
      const { port, server } = await pod((_, response) => response.writeHead(426).end("upgrade, please"));
      const sockets = new WebSocketServer({ server, handleProtocols: () => "chat" });
      sockets.on("connection", (socket, request) => {
        socket.send(`${request.headers.host} ${request.url} ${request.headers[TOKEN_HEADER] ?? "no token"}`);
        socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
      });
      return port;
    }

    test("are passed through", async () => {
      const gateway = await start();
      const token = await sign({ port: await echoPod(), host: "ws.example" });
      const socket = new WebSocket(`${gateway.url.replace("http", "ws")}/room?a=b`, ["chat"], {
        headers: { [TOKEN_HEADER]: token },
      });
      const [greeting] = (await once(socket, "message")) as [Buffer];
      expect(greeting.toString()).toBe("ws.example /room?a=b no token");
      expect(socket.protocol).toBe("chat");
      const large = Buffer.alloc(3_000_000, 7);
      socket.send(large);
      const [echo] = (await once(socket, "message")) as [Buffer];
      expect(echo.equals(large)).toBe(true);
      socket.close(4000, "done");
      const [code] = (await once(socket, "close")) as [number];
      expect(code).toBe(4000);
    });

    test("are closed for the client when the pod goes, and for the pod when the client goes", async () => {
      const podSide: Socket[] = [];
      const { port, server } = await pod((_, response) => response.end());
      server.on("upgrade", (_, socket: Socket) => {
        podSide.push(socket);
        socket.on("error", () => {});
        socket.once("end", () => socket.end());
        socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\nhi");
      });
      const gateway = await start();
      const headers = { [TOKEN_HEADER]: await sign({ port }), connection: "Upgrade", upgrade: "test" };
      const open = async (): Promise<Socket> => {
        const [, socket, head] = (await once(httpRequest(gateway.url, { headers }).end(), "upgrade")) as [
          unknown,
          Socket,
          Buffer,
        ];
        if (head.length === 0) await once(socket, "data");
        socket.on("error", () => {});
        return socket;
      };
      const first = await open();
      podSide[0]?.destroy();
      first.resume();
      await once(first, "close");
      const second = await open();
      const closed = once(podSide[1] as Socket, "close");
      podSide[1]?.resume();
      second.destroy();
      await closed;
    });

    test("without a key are none: whether the gateway or the pod says so is its choice", async () => {
      const { port } = await pod((_, response) => response.writeHead(401).end("not you"));
      const gateway = await start();
      const headers = { [TOKEN_HEADER]: await sign({ port }), connection: "Upgrade", upgrade: "websocket" };
      const [answer] = (await once(httpRequest(gateway.url, { headers }).end(), "response")) as [
        IncomingMessage,
      ];
      expect(answer.statusCode).toBe(implementation.checksWebSocketHandshakes ? 400 : 401);
      answer.resume();
    });

    test("that the pod declines get its answer", async () => {
      const { port } = await pod((_, response) => response.writeHead(401, { "x-pod": "yes" }).end("not you"));
      const gateway = await start();
      const headers = { [TOKEN_HEADER]: await sign({ port }), ...HANDSHAKE };
      const [answer] = (await once(httpRequest(gateway.url, { headers }).end(), "response")) as [
        IncomingMessage,
      ];
      expect([answer.statusCode, answer.headers["x-pod"], await text(answer)]).toEqual([
        401,
        "yes",
        "not you",
      ]);
    });

    test("without a good token, or to a dead pod, are refused like any request", async () => {
      const gateway = await start();
      const headers = HANDSHAKE;
      const [refused] = (await once(httpRequest(gateway.url, { headers }).end(), "response")) as [
        IncomingMessage,
      ];
      expect([refused.statusCode, refused.headers[GATEWAY_ERROR_HEADER]]).toEqual([403, "token"]);
      refused.resume();
      const dead = { ...headers, [TOKEN_HEADER]: await sign({ port: await closedPort() }) };
      const [failed] = (await once(httpRequest(gateway.url, { headers: dead }).end(), "response")) as [
        IncomingMessage,
      ];
      expect([failed.statusCode, failed.headers[GATEWAY_ERROR_HEADER]]).toEqual([502, "connect"]);
      failed.resume();
    });
  });

  describe("over TLS", () => {
    async function tlsPod(options: { readonly requestCert?: boolean } = {}): Promise<number> {
      const server = createHttpsServer(
        {
          ...podCertificate,
          ca: authority.ca,
          requestCert: options.requestCert === true,
          rejectUnauthorized: options.requestCert === true,
        },
        (request, response) => {
          const socket = request.socket as TLSSocket;
          response.end(
            JSON.stringify({
              sni: socket.servername || null,
              host: request.headers.host,
              client: socket.getPeerCertificate().subject?.CN ?? null,
            }),
          );
        },
      );
      return listen(server as unknown as TcpServer);
    }

    async function ask(port: number, target: Partial<GatewayTarget>): Promise<Answer> {
      return send(await start(), await sign({ port, scheme: "https", ...target }));
    }

    test("any certificate does where it is not to be checked, and no server name is sent", async () => {
      const answer = await ask(await tlsPod(), {});
      expect(JSON.parse(answer.body)).toEqual({ sni: null, host: "shop.example", client: null });
    });

    test("the server name is sent when asked for", async () => {
      const answer = await ask(await tlsPod(), { sni: "pod.example" });
      expect(JSON.parse(answer.body)).toMatchObject({ sni: "pod.example", host: "shop.example" });
    });

    test.each([
      [
        "by the private authority for the server name",
        { verify: true, tlsSecret: "shop/ca", sni: "pod.example" },
        200,
      ],
      [
        "by the private authority for the host",
        { verify: true, tlsSecret: "shop/ca", host: "pod.example:8443" },
        200,
      ],
      ["for another name", { verify: true, tlsSecret: "shop/ca", sni: "other.example" }, 502],
      ["by an unknown authority", { verify: true, sni: "pod.example" }, 502],
      ["with a Secret that is not there", { verify: true, tlsSecret: "shop/none", sni: "pod.example" }, 502],
    ] as const)("a certificate is checked: %s", async (_, target, status) => {
      const answer = await ask(await tlsPod(), target);
      expect([answer.status, answer.headers[GATEWAY_ERROR_HEADER]]).toEqual([
        status,
        status === 200 ? undefined : "connect",
      ]);
    });

    test("a connection that was checked for one name does not serve another one", async () => {
      const port = await tlsPod();
      const gateway = await start();
      const to = (sni: string): Promise<string> =>
        sign({ port, scheme: "https", verify: true, tlsSecret: "shop/ca", sni });
      expect((await send(gateway, await to("pod.example"))).status).toBe(200);
      expect((await send(gateway, await to("other.example"))).status).toBe(502);
      expect((await send(gateway, await sign({ port, scheme: "https" }))).status).toBe(200);
      expect((await send(gateway, await to("other.example"))).status).toBe(502);
    });

    test("a pod that requires a client certificate gets the Secret's", async () => {
      const port = await tlsPod({ requestCert: true });
      const answer = await ask(port, { tlsSecret: "shop/mutual" });
      expect(JSON.parse(answer.body)).toMatchObject({ client: "gateway" });
      expect((await ask(port, {})).status).toBe(502);
    });

    test("a pod that speaks no TLS is 502 `connect`", async () => {
      const { port } = await pod((_, response) => response.end());
      const answer = await ask(port, {});
      expect([answer.status, answer.headers[GATEWAY_ERROR_HEADER]]).toEqual([502, "connect"]);
    });
  });

  describe.each(["h2c", "h2"] as const)("over %s", (scheme) => {
    async function grpcPod(): Promise<number> {
      const server = scheme === "h2c" ? createHttp2Server() : createHttp2SecureServer(podCertificate);
      server.on("stream", (stream, headers) => {
        stream.respond(
          {
            ":status": 200,
            "content-type": "application/grpc",
            "x-authority": headers[":authority"],
            "x-path": headers[":path"],
            "x-te": headers.te ?? "none",
            "set-cookie": ["a=1", "b=2"],
          },
          { waitForTrailers: true },
        );
        stream.once("wantTrailers", () =>
          stream.sendTrailers({ "grpc-status": "0", "grpc-message": "fine" }),
        );
        stream.pipe(stream);
      });
      return listen(server);
    }

    test("body, headers and trailers pass", async () => {
      const answer = await send(await start(), await sign({ port: await grpcPod(), scheme }), {
        method: "POST",
        path: "/shop.Cart/Add?x=1",
        headers: { "content-type": "application/grpc", "transfer-encoding": "chunked", te: "trailers" },
        body: "message",
      });
      expect(answer.status).toBe(200);
      expect(answer.body).toBe("message");
      expect(answer.headers).toMatchObject({
        "x-authority": "shop.example",
        "x-path": "/shop.Cart/Add?x=1",
        "x-te": "trailers",
        "set-cookie": ["a=1", "b=2"],
      });
      expect(answer.trailers).toMatchObject({ "grpc-status": "0", "grpc-message": "fine" });
    });

    test("many requests share a connection, bodies large and small", async () => {
      // 40 MB through this very process leave it no time to be quick.
      const gateway = await start(undefined, undefined, 10_000);
      const token = await sign({ port: await grpcPod(), scheme });
      const large = "x".repeat(2_000_000);
      const bodies = await Promise.all(
        Array.from(
          { length: 20 },
          async (_, n) => (await send(gateway, token, { method: "POST", body: `${n}${large}` })).body,
        ),
      );
      expect(bodies.map((body) => body.length - large.length)).toEqual([
        ...Array(10).fill(1),
        ...Array(10).fill(2),
      ]);
    });

    test("a refused connection is 502 `connect`, and so is a pod that speaks HTTP/1 only", async () => {
      const gateway = await start();
      const dead = await send(gateway, await sign({ port: await closedPort(), scheme }));
      expect([dead.status, dead.headers[GATEWAY_ERROR_HEADER]]).toEqual([502, "connect"]);
      const { port } = await pod((_, response) => response.end());
      expect((await send(gateway, await sign({ port, scheme }))).status).toBe(502);
    });

    test("a stream that the pod resets is 502, or breaks off", async () => {
      const server = scheme === "h2c" ? createHttp2Server() : createHttp2SecureServer(podCertificate);
      server.on("stream", (stream, headers) => {
        stream.on("error", () => {});
        if (headers[":path"] === "/late") {
          stream.respond({ ":status": 200 });
          stream.write("half", () => stream.destroy(new Error("lost")));
        } else stream.close(2);
      });
      const port = await listen(server);
      const gateway = await start();
      const token = await sign({ port, scheme });
      const early = await send(gateway, token);
      expect([early.status, early.headers[GATEWAY_ERROR_HEADER]]).toEqual([502, "response"]);
      const request = httpRequest(gateway.url, { path: "/late", headers: { [TOKEN_HEADER]: token } }).end();
      const [answer] = (await once(request, "response")) as [IncomingMessage];
      await expect(text(answer)).rejects.toThrow();
    });
  });

  test("resolves names, and dials only addresses that are allowed", async () => {
    const { port } = await pod((_, response) => response.end("reached"));
    expect((await send(await start(), await sign({ address: "localhost", port }))).body).toBe("reached");
    const strict = await send(await start(["10.0.0.0/8"], false), await sign({ address: "localhost", port }));
    expect([strict.status, strict.headers[GATEWAY_ERROR_HEADER]]).toEqual([403, "address"]);
    const unknown = await send(await start(), await sign({ address: "no-such-name.invalid", port }));
    expect([unknown.status, unknown.headers[GATEWAY_ERROR_HEADER]]).toEqual([502, "connect"]);
  });

  test("survives what is no HTTP", async () => {
    const gateway = await start();
    const { port } = new URL(gateway.url);
    for (const nonsense of [
      "\u0000\u0001\u0002",
      "GET\r\n\r\n",
      "GET / HTTP/9.9\r\n\r\n",
      "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    ]) {
      const socket = connect(Number(port), "127.0.0.1");
      socket.on("error", () => {});
      socket.end(nonsense);
      socket.resume();
      await once(socket, "close");
    }
    const { port: podPort } = await pod((_, response) => response.end("reached"));
    expect((await send(gateway, await sign({ port: podPort }))).body).toBe("reached");
  });
});
