/**
 * Sends a request to a pod over HTTP/1.1 and its answer back: heads as they came, bodies as streams with
 * back-pressure, trailers at their end.
 *
 * Connections are kept for requests that may safely be sent twice (RFC 9110 §9.2.2) and have no body: a pod
 * may close an idle connection at the very moment in which we use it, and such a request is sent again on a
 * fresh one. Every other request gets a connection of its own.
 */

import {
  Agent,
  type ClientRequest,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
  type ServerResponse,
} from "node:http";
import { request as httpsRequest, Agent as TlsAgent } from "node:https";
import type { Duplex } from "node:stream";
import { answerError } from "./answer.ts";
import type { Route } from "./authorize.ts";
import { ConnectError, type DialSettings, reasonOf, tlsOptions } from "./dial.ts";
import { headersForPod, headersFromPod, pairs } from "./headers.ts";

const REPEATABLE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "PUT"]);

/** For these, node:http sends no framing when there is no body; for all others it would send an empty chunked one. */
const BODYLESS_BY_DEFAULT: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "DELETE"]);

export interface Http1 {
  readonly forward: (request: IncomingMessage, response: ServerResponse, route: Route) => void;
  /** For a request that asks for another protocol, a WebSocket's above all; `head` came after its headers. */
  readonly upgrade: (
    request: IncomingMessage,
    response: ServerResponse,
    socket: Duplex,
    head: Buffer,
    route: Route,
  ) => void;
  readonly close: () => void;
}

export function createHttp1(settings: DialSettings): Http1 {
  const agent = new Agent({ keepAlive: true, maxFreeSockets: 256 });
  const tlsAgent = new TlsAgent({ keepAlive: true, maxFreeSockets: 256 });

  const dial = (request: IncomingMessage, route: Route, headers: string[], reuse: boolean): ClientRequest => {
    const { target, ip } = route;
    const isTls = target.scheme === "https";
    const options: RequestOptions = {
      host: ip,
      port: target.port,
      method: request.method,
      path: route.requestTarget ?? request.url,
      headers,
      setHost: false,
      agent: reuse ? (isTls ? tlsAgent : agent) : false,
      ...(isTls ? tlsOptions(route, settings) : {}),
    };
    const outgoing = isTls ? httpsRequest(options) : httpRequest(options);
    outgoing.once("socket", (socket) => {
      if (!socket.connecting) return;
      const longest = target.connectTimeoutMs ?? settings.connectTimeoutMs;
      const timer = setTimeout(() => {
        outgoing.destroy(new ConnectError(`no connection within ${longest} ms`));
      }, longest);
      socket.once(isTls ? "secureConnect" : "connect", () => clearTimeout(timer));
      socket.once("close", () => clearTimeout(timer));
    });
    return outgoing;
  };

  const forward = (request: IncomingMessage, response: ServerResponse, route: Route): void => {
    const isChunked = request.headers["transfer-encoding"] !== undefined;
    const hasBody = isChunked || (request.headers["content-length"] ?? "0") !== "0";
    const method = request.method ?? "GET";
    const headers = headersForPod(request.rawHeaders, route.target.host);
    if (isChunked) headers.push("Transfer-Encoding", "chunked");
    else if (!BODYLESS_BY_DEFAULT.has(method) && request.headers["content-length"] === undefined)
      headers.push("Content-Length", "0");
    const mayRepeat = !hasBody && REPEATABLE.has(method);

    const attempt = (reuse: boolean): void => {
      const outgoing = dial(request, route, headers, reuse);
      let connected = false;
      outgoing.once("socket", (socket) => {
        if (!socket.connecting) connected = true;
        else
          socket.once(
            route.target.scheme === "https" ? "secureConnect" : "connect",
            () => (connected = true),
          );
      });
      let answered = false;
      outgoing.once("response", (incoming) => {
        answered = true;
        sendBack(incoming, response);
      });
      outgoing.on("error", (error) => {
        // A pod may answer before it has read the whole body, and stop reading: its answer counts.
        if (answered) return;
        if (mayRepeat && outgoing.reusedSocket && !response.headersSent && !response.destroyed)
          attempt(false);
        else
          answerError(
            response,
            connected && !(error instanceof ConnectError) ? "response" : "connect",
            reasonOf(error),
          );
      });
      response.once("close", () => {
        if (!response.writableFinished) outgoing.destroy(); // The Worker has gone.
      });
      if (hasBody) sendBody(request, outgoing);
      else outgoing.end();
    };
    attempt(mayRepeat);
  };

  const upgrade: Http1["upgrade"] = (request, response, socket, head, route) => {
    const headers = headersForPod(request.rawHeaders, route.target.host);
    headers.push("Connection", "Upgrade", "Upgrade", request.headers.upgrade ?? "");
    const outgoing = dial(request, route, headers, false);
    let connected = false;
    outgoing.once("socket", (podSocket) => {
      podSocket.once(route.target.scheme === "https" ? "secureConnect" : "connect", () => (connected = true));
    });
    outgoing.once("upgrade", (incoming, podSocket, podHead) => {
      response.detachSocket(socket as never);
      socket.write(upgradeHead(incoming));
      if (podHead.length > 0) socket.write(podHead);
      if (head.length > 0) podSocket.write(head);
      tunnel(socket, podSocket);
    });
    // The pod declined: an answer like any other, on a connection that ends with it.
    outgoing.once("response", (incoming) => sendBack(incoming, response));
    outgoing.on("error", (error) =>
      answerError(response, connected ? "response" : "connect", reasonOf(error)),
    );
    socket.once("close", () => outgoing.destroy());
    outgoing.end();
  };

  return {
    forward,
    upgrade,
    close: () => {
      agent.destroy();
      tlsAgent.destroy();
    },
  };
}

function sendBody(request: IncomingMessage, outgoing: ClientRequest): void {
  request.pipe(outgoing, { end: false });
  request.once("end", () => {
    if (request.rawTrailers.length > 0) outgoing.addTrailers(pairs(request.rawTrailers));
    outgoing.end();
  });
  request.once("close", () => {
    if (!request.complete) outgoing.destroy();
  });
}

function sendBack(incoming: IncomingMessage, response: ServerResponse): void {
  response.sendDate = false; // The pod's own, or none.
  response.writeHead(incoming.statusCode ?? 502, incoming.statusMessage, headersFromPod(incoming.rawHeaders));
  response.flushHeaders(); // The first event of a stream may be minutes away.
  incoming.pipe(response, { end: false });
  incoming.once("end", () => {
    if (incoming.rawTrailers.length > 0) response.addTrailers(pairs(incoming.rawTrailers));
    response.end();
  });
  // A body that broke off must break off here too: an orderly end would pass for the whole of it.
  incoming.once("close", () => {
    if (!incoming.complete) response.destroy();
  });
  incoming.once("error", () => response.destroy());
}

function upgradeHead(incoming: IncomingMessage): string {
  const headers = headersFromPod(incoming.rawHeaders);
  headers.push("Connection", "Upgrade", "Upgrade", incoming.headers.upgrade ?? "");
  const lines = pairs(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 101 ${incoming.statusMessage ?? "Switching Protocols"}\r\n${lines.join("")}\r\n`;
}

/** How long a side may still send after the other one has ended. */
const TUNNEL_LINGER_MS = 5_000;

/** Both ways until one side ends; then the other one is ended too, and cut if it does not follow. */
function tunnel(left: Duplex, right: Duplex): void {
  for (const [from, to] of [
    [left, right],
    [right, left],
  ] as const) {
    from.pipe(to);
    from.once("end", () => {
      const timer = setTimeout(() => to.destroy(), TUNNEL_LINGER_MS);
      to.once("close", () => clearTimeout(timer));
    });
    from.once("error", () => to.destroy());
    from.once("close", () => to.destroy());
  }
}
