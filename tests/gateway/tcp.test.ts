/**
 * What the gateways pass on as TCP: TLS by its server name, and TCP services with the PROXY protocol. The same tests
 * against the embedded parts of `fairlead dev` and the real HAProxy.
 */

import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { parseTokenKeys } from "../../edge-config/gateway-token.ts";
import { createAddressPolicy } from "../../gateway/allowed-addresses.ts";
import { renderHaproxy } from "../../gateway/haproxy/render.ts";
import type { PassthroughSettings } from "../../gateway/haproxy/settings.ts";
import { writeFiles } from "../../gateway/haproxy/write.ts";
import type { PassthroughHosts } from "../../gateway/passthrough.ts";
import { readProxyHeader, writeProxyHeader } from "../../gateway/proxy-protocol.ts";
import { listenForTcpService, type TcpService } from "../../gateway/tcp-service.ts";
import { freePorts } from "../free-ports.ts";
import { type Certificate, createAuthority } from "./certificates.ts";
import { haveHaproxy, startRendered } from "./haproxy.ts";

const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  closing.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** A pod that says its name, then what it reads, until the client ends its sending; then a last word. */
async function echoPod(name: string): Promise<string> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    socket.write(`${name}:`);
    socket.on("data", (chunk) => socket.write(chunk));
    socket.on("end", () => socket.end(":bye"));
  });
  return `127.0.0.1:${await listen(server)}`;
}

/** A port that refuses. */
async function deadEndpoint(): Promise<string> {
  const [port] = await freePorts(1);
  return `127.0.0.1:${port}`;
}

interface Parts {
  readonly passthrough?: Omit<PassthroughSettings, "listen">;
  readonly service?: TcpService;
}

interface RunningParts {
  readonly port: number;
  /** Renders anew and reloads. */
  readonly change: (parts: Parts) => Promise<void>;
}

async function startHaproxy(initial: Parts): Promise<RunningParts> {
  const folder = await mkdtemp(join(tmpdir(), "fairlead-haproxy-tcp-"));
  closing.push(() => rm(folder, { recursive: true, force: true }));
  const [port = 0, listenPort = 0, healthPort = 0] = await freePorts(3);
  const write = (parts: Parts): Promise<void> =>
    writeFiles(folder, render(parts, { folder, port, listenPort, healthPort }));
  await write(initial);
  const running = await startRendered(folder);
  closing.push(() => running.close());
  return {
    port,
    change: async (parts) => {
      await write(parts);
      await running.reload();
    },
  };
}

async function haproxy(parts: Parts): Promise<number> {
  return (await startHaproxy(parts)).port;
}

function render(
  parts: Parts,
  {
    folder,
    port,
    listenPort,
    healthPort,
  }: { folder: string; port: number; listenPort: number; healthPort: number },
): ReturnType<typeof renderHaproxy> {
  return renderHaproxy({
    keys: parseTokenKeys(`k:${Buffer.alloc(32, 1).toString("base64")}`),
    allowedCidrs: [],
    allowLoopback: true,
    listen: `127.0.0.1:${listenPort}`,
    healthListen: `127.0.0.1:${healthPort}`,
    tlsSecrets: new Map(),
    nameservers: [],
    connectTimeoutMs: 2_000,
    drainSeconds: 10,
    maxConnections: 200,
    maxHeadKibibytes: 32,
    folder,
    ...(parts.passthrough === undefined
      ? {}
      : { passthrough: { ...parts.passthrough, listen: `127.0.0.1:${port}` } }),
    tcpServices: parts.service === undefined ? [] : [{ ...parts.service, port, name: "shop/db:5432" }],
    tcpAddress: "127.0.0.1",
  });
}

/** The client's side: sends, ends its sending, and reads all. */
async function talk(port: number, ...parts: readonly (string | Buffer)[]): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  for (const part of parts) socket.write(part);
  socket.end();
  return await readAll(socket);
}

async function readAll(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

const SETTINGS = {
  connectTimeoutMs: 2_000,
  idleTimeoutMs: 60_000,
  allows: createAddressPolicy({ allowedCidrs: [], allowLoopback: true }),
};

const implementations = [
  {
    name: "embedded",
    isInstalled: true,
    /** A PROXY header may come in pieces; HAProxy wants it whole, as its specification lets it. */
    takesPieces: true,
    service: async (service: TcpService): Promise<number> => {
      const [port = 0] = await freePorts(1);
      const listener = await listenForTcpService("127.0.0.1", port, service, SETTINGS);
      closing.push(() => listener.close());
      return port;
    },
  },
  {
    name: "HAProxy",
    isInstalled: haveHaproxy,
    takesPieces: false,
    service: (service: TcpService) => haproxy({ service }),
  },
];

describe.each(implementations)("a TCP service of $name", ({ isInstalled, takesPieces, service }) => {
  const plain = { acceptsProxy: false } as const;

  test.skipIf(!isInstalled)("passes bytes both ways, and the end of each side by itself", async () => {
    const port = await service({ ...plain, endpoints: [await echoPod("a")] });
    const long = "x".repeat(300_000);
    expect(await talk(port, "hello ", long)).toBe(`a:hello ${long}:bye`);
  });

  test.skipIf(!isInstalled)("goes to its endpoints in turn, and past one that refuses", async () => {
    const endpoints = [await echoPod("a"), await deadEndpoint(), await echoPod("b")];
    const port = await service({ ...plain, endpoints });
    const answers = [];
    for (let i = 0; i < 6; i++) answers.push(await talk(port, "1"));
    expect(new Set(answers)).toEqual(new Set(["a:1:bye", "b:1:bye"]));
  });

  test.skipIf(!isInstalled)(
    "without an endpoint that takes it the connection ends without a byte",
    async () => {
      const port = await service({ ...plain, endpoints: [await deadEndpoint()] });
      await expect(talk(port, "1").catch(() => "")).resolves.toBe("");
    },
  );

  const ends = {
    source: { address: "203.0.113.7", port: 56_324 },
    destination: { address: "192.0.2.1", port: 27_017 },
  };
  const ends6 = {
    source: { address: "2001:db8::7", port: 56_324 },
    destination: { address: "2001:db8::1", port: 27_017 },
  };

  test.skipIf(!isInstalled).each([
    ["v1", ends],
    ["v2", ends],
    ["v1", ends6],
    ["v2", ends6],
  ] as const)("takes the header %s off", async (version, given) => {
    const port = await service({ acceptsProxy: true, endpoints: [await echoPod("a")] });
    expect(await talk(port, Buffer.concat([writeProxyHeader(version, given), Buffer.from("hello")]))).toBe(
      "a:hello:bye",
    );
  });

  test.skipIf(!isInstalled)("refuses who sends no header", async () => {
    const port = await service({ acceptsProxy: true, endpoints: [await echoPod("a")] });
    await expect(talk(port, "GET / HTTP/1.1\r\n\r\n").catch(() => "")).resolves.toBe("");
  });

  describe.each(["v1", "v2"] as const)("tells pods by %s", (sendsProxy) => {
    test.skipIf(!isInstalled)("who connected", async () => {
      const port = await service({ acceptsProxy: false, sendsProxy, endpoints: [await echoPod("a")] });
      const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
      await once(socket, "connect");
      const source = { address: "127.0.0.1", port: socket.localPort };
      socket.end("hello");
      const { header, rest } = splitHeader(await readAllBytes(socket));
      expect(header).toMatchObject({ ends: { source, destination: { address: "127.0.0.1", port } } });
      expect(rest).toBe("hello:bye");
    });

    test.skipIf(!isInstalled).each([
      ["v1", ends],
      ["v2", ends6],
    ] as const)("whom the header %s named", async (version, given) => {
      const port = await service({ acceptsProxy: true, sendsProxy, endpoints: [await echoPod("a")] });
      const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
      const bytes = writeProxyHeader(version, given);
      if (takesPieces) socket.write(bytes.subarray(0, 9));
      const rest = takesPieces ? bytes.subarray(9) : bytes;
      setImmediate(() => socket.end(Buffer.concat([rest, Buffer.from("hello")])));
      const seen = splitHeader(await readAllBytes(socket));
      expect(seen.header).toMatchObject({ ends: given });
      expect(seen.rest).toBe("hello:bye");
    });
  });
});

async function readAllBytes(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Of what an echoing pod sent back: its name, then the header that it got, then the rest. */
function splitHeader(bytes: Buffer): { readonly header: unknown; readonly rest: string } {
  const echoed = bytes.subarray("a:".length);
  const header = readProxyHeader(echoed);
  if (header.kind !== "header") throw new Error(`no header, but ${header.kind}: ${bytes.toString("latin1")}`);
  return { header, rest: echoed.subarray(header.length).toString() };
}

describe.skipIf(!haveHaproxy)("a TCP service of HAProxy that changes", () => {
  test("new connections go to the new endpoints, and those under way go on", async () => {
    const before = { acceptsProxy: false, endpoints: [await echoPod("old")] };
    const { port, change } = await startHaproxy({ service: before });
    const old = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    await once(old, "data");
    await change({ service: { ...before, endpoints: [await echoPod("new")] } });
    // The process before takes connections until the new one has said that it does.
    await vi.waitFor(async () => expect(await talk(port, "1")).toBe("new:1:bye"), { timeout: 20_000 });
    old.end("still here");
    expect(await readAll(old)).toBe("still here:bye");
  });
});

describe.skipIf(!haveHaproxy)("TLS passthrough of HAProxy", () => {
  let certificates: ReadonlyMap<string, Certificate>;
  let ca: string;
  let closeAuthority: () => Promise<void>;

  beforeAll(async () => {
    const authority = await createAuthority();
    ca = authority.ca;
    closeAuthority = authority.close;
    const names = ["one.example.com", "two.example.com", "a.wild.example.com", "fallback.example.com"];
    certificates = new Map(
      await Promise.all(names.map(async (name) => [name, await authority.issue(name)] as const)),
    );
  });

  afterAll(() => closeAuthority());

  /** Ends TLS itself, with a certificate of its own. */
  async function tlsPod(name: string): Promise<string> {
    const { cert = "", key = "" } = certificates.get(name) ?? {};
    const server = createTlsServer({ cert, key, ALPNProtocols: ["h2"] }, (socket) => {
      socket.on("error", () => {});
      socket.end(`${name} ${socket.alpnProtocol}`);
    });
    return `127.0.0.1:${await listen(server)}`;
  }

  async function ask(port: number, servername: string): Promise<string> {
    const socket = connectTls({ port, host: "127.0.0.1", servername, ca, ALPNProtocols: ["h2", "http/1.1"] });
    return await readAll(socket);
  }

  async function hosts(): Promise<PassthroughHosts> {
    const target = async (backend: string, name: string) => ({ backend, endpoints: [await tlsPod(name)] });
    return new Map([
      ["*.wild.example.com", await target("shop/wild:443", "a.wild.example.com")],
      ["elsewhere.wild.example.com", undefined],
      ["one.example.com", await target("shop/one:443", "one.example.com")],
      ["two.example.com", await target("shop/two:443", "two.example.com")],
    ]);
  }

  test("two hosts reach their pods, whose certificates clients see", async () => {
    const port = await haproxy({ passthrough: { acceptsProxy: false, hosts: await hosts() } });
    expect(await ask(port, "one.example.com")).toBe("one.example.com h2");
    expect(await ask(port, "two.example.com")).toBe("two.example.com h2");
    expect(await ask(port, "a.wild.example.com")).toBe("a.wild.example.com h2");
    expect(await ask(port, "ONE.Example.COM")).toBe("one.example.com h2");
  });

  test("an unknown name, an exact one under a wildcard, and no TLS at all are closed", async () => {
    const port = await haproxy({ passthrough: { acceptsProxy: false, hosts: await hosts() } });
    for (const name of ["three.example.com", "elsewhere.wild.example.com", "a.b.wild.example.com"])
      expect(await ask(port, name).catch(() => ""), name).toBe("");
    expect(await talk(port, "GET / HTTP/1.1\r\n\r\n").catch(() => "")).toBe("");
  });

  test("all other names go where the operator says", async () => {
    const otherwise = await tlsPod("fallback.example.com");
    const port = await haproxy({ passthrough: { acceptsProxy: false, hosts: await hosts(), otherwise } });
    const fallback = async (servername: string): Promise<string> => {
      const socket = connectTls({ port, host: "127.0.0.1", servername, rejectUnauthorized: false });
      return await readAll(socket);
    };
    expect(await fallback("three.example.com")).toMatch(/^fallback/);
    expect(await fallback("elsewhere.wild.example.com")).toMatch(/^fallback/);
    expect(await fallback("")).toMatch(/^fallback/);
    expect(await fallback("one.example.com")).toMatch(/^one/);
  });

  test("behind a balancer with the PROXY protocol", async () => {
    const port = await haproxy({ passthrough: { acceptsProxy: true, hosts: await hosts() } });
    const socket = connect({ port, host: "127.0.0.1" });
    socket.write(
      writeProxyHeader("v2", {
        source: { address: "203.0.113.7", port: 1 },
        destination: { address: "192.0.2.1", port: 443 },
      }),
    );
    const tls = connectTls({ socket, servername: "one.example.com", ca });
    expect(await readAll(tls)).toMatch(/^one.example.com/);
  });
});
