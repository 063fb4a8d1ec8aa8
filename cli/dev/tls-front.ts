/**
 * The TLS end of `fairlead dev --protocol https`: takes TLS off and passes every request on to the Worker's own socket.
 *
 * In production Cloudflare stands here. The Worker learns the scheme and host from the request line in absolute form
 * (RFC 9112 §3.2.2); path, headers and bodies pass as they came. HTTP/1.1 only.
 */

import { Agent, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream";
import type { Certificates } from "./certificates.ts";
import { type Front, listen } from "./tcp-front.ts";
import { connectToWorker } from "./worker-socket.ts";

const CLIENT_HEADER = "CF-Connecting-IP";
/** Of one connection only (RFC 9110 §7.6.1). */
const CONNECTION_HEADERS: ReadonlySet<string> = new Set(["connection", "keep-alive", "proxy-connection"]);

export async function startTlsFront(
  host: string,
  port: number,
  workerPort: number,
  certificates: Certificates,
): Promise<Front> {
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
  server.on("request", pass);
  server.on("checkContinue", pass);
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const upstream = connectToWorker(workerPort);
    upstream.write(requestHead(request));
    upstream.write(head);
    pipeline(upstream, socket, () => {});
    pipeline(socket, upstream, () => upstream.resetAndDestroy());
  });
  await listen(server, host, port);
  return {
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      agent.destroy();
      await closed;
    },
  };
}

function absoluteTarget(request: IncomingMessage): string {
  const target = request.url ?? "/";
  if (!target.startsWith("/") && target !== "*") return target;
  return `https://${request.headers.host ?? ""}${target}`;
}

/** As they came, and the client's address unless somebody in front has told it already. */
function passedHeaders(request: IncomingMessage): string[] {
  const headers = withoutConnection(request.rawHeaders);
  if (request.headers[CLIENT_HEADER.toLowerCase()] === undefined) {
    headers.push(CLIENT_HEADER, request.socket.remoteAddress ?? "");
  }
  return headers;
}

function withoutConnection(rawHeaders: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? "";
    if (!CONNECTION_HEADERS.has(name.toLowerCase())) kept.push(name, rawHeaders[i + 1] ?? "");
  }
  return kept;
}

/** A request that becomes a tunnel, with all its headers: those of the connection are what it is about. */
function requestHead(request: IncomingMessage): string {
  const lines = [`${request.method} ${absoluteTarget(request)} HTTP/1.1`];
  for (let i = 0; i + 1 < request.rawHeaders.length; i += 2)
    lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
  if (request.headers[CLIENT_HEADER.toLowerCase()] === undefined)
    lines.push(`${CLIENT_HEADER}: ${request.socket.remoteAddress ?? ""}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
}
