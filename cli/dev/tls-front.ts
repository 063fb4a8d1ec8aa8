/**
 * The TLS end of `fairlead dev --protocol https`: takes TLS off and passes every request on to the Worker's own socket.
 * Connections for a host with `ssl-passthrough` never get that far: they go to a pod as they are.
 *
 * In production Cloudflare stands here, and the gateway for passthrough. The Worker learns the scheme and host from the request line in absolute form
 * (RFC 9112 §3.2.2); path, headers and bodies pass as they came. HTTP/1.1 only.
 */

import { Agent, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer } from "node:https";
import { createServer as createTcpServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream";
import { TLSSocket } from "node:tls";
import { readClientHello } from "../../gateway/client-hello.ts";
import type { Certificates } from "./certificates.ts";
import { askForCertificate, type ClientDemands } from "./client-certificates.ts";
import { type Front, listen } from "./tcp-front.ts";
import { connectToWorker } from "./worker-socket.ts";

const CLIENT_HEADER = "CF-Connecting-IP";
/** What workerd takes for `request.cf`, as JSON. Nobody but us may write it. */
const CF_HEADER = "MF-CF-Blob";
/** Of one connection only (RFC 9110 §7.6.1). */
const CONNECTION_HEADERS: ReadonlySet<string> = new Set(["connection", "keep-alive", "proxy-connection"]);

/** For the first message of TLS. */
const HELLO_TIMEOUT_MS = 30_000;

export interface TlsFrontOptions {
  readonly host: string;
  readonly port: number;
  readonly workerPort: number;
  readonly certificates: Certificates;
  /** Who is asked for a certificate. */
  readonly demands: ClientDemands;
  /** Takes over a connection for a server name whose TLS ends at a pod; false leaves it here. `head` was read from it. */
  readonly passThrough: (client: Socket, head: Buffer, serverName: string) => boolean;
}

export async function startTlsFront(options: TlsFrontOptions): Promise<Front> {
  const { host, port, workerPort, certificates, demands } = options;
  const agent = new Agent({ keepAlive: true });
  agent.createConnection = () => connectToWorker(workerPort);
  const server = createServer({
    ...certificates.own,
    SNICallback: (name, done) => done(null, certificates.contextFor(name)),
    ALPNProtocols: ["http/1.1"],
    maxHeaderSize: 128 * 1024,
    requestTimeout: 0,
  });
  const pass = (request: IncomingMessage, response: ServerResponse): void => {
    const outgoing = httpRequest({
      agent,
      method: request.method ?? "GET",
      path: absoluteTarget(request),
      headers: passedHeaders(request),
      setHost: false,
    });
    outgoing.on("continue", () => response.writeContinue());
    outgoing.on("response", (answer) => {
      response.writeHead(
        answer.statusCode ?? 502,
        answer.statusMessage,
        withoutConnection(answer.rawHeaders),
      );
      pipeline(answer, response, () => {});
    });
    outgoing.on("error", () => {
      if (response.headersSent) response.destroy();
      else response.writeHead(502).end();
    });
    // Reset, not closed: see `tcp-front.ts`.
    response.on("close", () => {
      if (!response.writableFinished) outgoing.socket?.resetAndDestroy();
    });
    pipeline(request, outgoing, () => {});
  };
  const upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    const upstream = connectToWorker(workerPort);
    upstream.write(requestHead(request));
    upstream.write(head);
    pipeline(upstream, socket, () => {});
    pipeline(socket, upstream, () => upstream.resetAndDestroy());
  };
  server.on("request", pass);
  server.on("checkContinue", pass);
  server.on("upgrade", upgrade);
  const sockets = new Set<Socket>();
  const front = createTcpServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    sockets.add(client);
    client.once("close", () => sockets.delete(client));
    readHello(client, (head, serverName) => {
      if (serverName !== undefined && options.passThrough(client, head, serverName)) return;
      // The TLS socket takes what the socket under it has buffered.
      client.allowHalfOpen = false;
      client.unshift(head);
      const demand = demands.find(serverName);
      if (demand === undefined) server.emit("connection", client);
      else
        askForCertificate(client, demand, certificates.pemFor(serverName), (socket, told) => {
          if (told !== undefined) toldOf.set(socket, JSON.stringify({ tlsClientAuth: told }));
          server.emit("secureConnection", socket);
        });
    });
  });
  await listen(front, host, port);
  return {
    close: async () => {
      const closed = new Promise<void>((resolve) => front.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      agent.destroy();
      await closed;
    },
  };
}

/** Reads until the client's first message is whole, or is none of TLS, which is for the TLS server to say. */
function readHello(client: Socket, done: (head: Buffer, serverName: string | undefined) => void): void {
  let head = Buffer.alloc(0);
  const giveUp = (): void => {
    client.destroy();
  };
  const timer = setTimeout(giveUp, HELLO_TIMEOUT_MS);
  const stop = (): void => {
    clearTimeout(timer);
    client.off("data", read);
    client.off("end", giveUp);
    client.off("error", giveUp);
    client.off("close", stop);
  };
  const read = (chunk: Buffer): void => {
    head = Buffer.concat([head, chunk]);
    const hello = readClientHello(head);
    if (hello.kind === "incomplete") return;
    stop();
    client.pause();
    done(head, hello.kind === "hello" ? hello.serverName : undefined);
  };
  client.on("data", read);
  client.on("end", giveUp);
  client.on("error", giveUp);
  client.on("close", stop);
}

function absoluteTarget(request: IncomingMessage): string {
  const target = request.url ?? "/";
  if (!target.startsWith("/") && target !== "*") return target;
  return `https://${request.headers.host ?? ""}${target}`;
}

/** As they came, and what Cloudflare would tell of the client. */
function passedHeaders(request: IncomingMessage): string[] {
  return [...withoutConnection(request.rawHeaders), ...addedHeaders(request)];
}

/** The client's address unless somebody in front has told it already, and its certificate. */
function addedHeaders(request: IncomingMessage): string[] {
  const added: string[] = [];
  if (request.headers[CLIENT_HEADER.toLowerCase()] === undefined)
    added.push(CLIENT_HEADER, request.socket.remoteAddress ?? "");
  const told = request.socket instanceof TLSSocket ? toldOf.get(request.socket) : undefined;
  if (told !== undefined) added.push(CF_HEADER, told);
  return added;
}

/** JSON for `request.cf` of connections whose client showed a certificate. */
const toldOf = new WeakMap<TLSSocket, string>();

function withoutConnection(rawHeaders: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? "";
    if (!CONNECTION_HEADERS.has(name.toLowerCase()) && !isOurs(name))
      kept.push(name, rawHeaders[i + 1] ?? "");
  }
  return kept;
}

/** A request that becomes a tunnel, with all its headers: those of the connection are what it is about. */
function requestHead(request: IncomingMessage): string {
  const lines = [`${request.method} ${absoluteTarget(request)} HTTP/1.1`];
  const headers = [...request.rawHeaders, ...addedHeaders(request)];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] ?? "";
    if (!isOurs(name) || i >= request.rawHeaders.length) lines.push(`${name}: ${headers[i + 1]}`);
  }
  return `${lines.join("\r\n")}\r\n\r\n`;
}

function isOurs(name: string): boolean {
  return name.toLowerCase() === CF_HEADER.toLowerCase();
}
