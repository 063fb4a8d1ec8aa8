/**
 * Sends a request to a pod over HTTP/2, with prior knowledge (`h2c`) or over TLS (`h2`): gRPC above all.
 * One connection a pod and identity, shared by all requests; bodies stream both ways and trailers pass.
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from "node:http2";
import { answerError } from "./answer.ts";
import type { Route } from "./authorize.ts";
import { ConnectError, type DialSettings, reasonOf, tlsOptions } from "./dial.ts";
import { eachHeader, headersForPod, headersFromPod, pairs } from "./headers.ts";

export interface Http2 {
  readonly forward: (request: IncomingMessage, response: ServerResponse, route: Route) => void;
  readonly close: () => void;
}

export function createHttp2(settings: DialSettings): Http2 {
  const sessions = new Map<string, ClientHttp2Session>();

  const sessionFor = (route: Route): ClientHttp2Session => {
    const { target, ip } = route;
    const id = [
      target.scheme,
      ip,
      target.port,
      target.sni ?? target.host,
      target.verify === true,
      target.tlsSecret ?? "",
    ].join(" ");
    const known = sessions.get(id);
    if (known !== undefined && !known.closed && !known.destroyed) return known;
    const scheme = target.scheme === "h2" ? "https" : "http";
    const authority = `${scheme}://${ip.includes(":") ? `[${ip}]` : ip}:${target.port}`;
    const session = connect(
      authority,
      scheme === "https" ? { ...tlsOptions(route, settings), ALPNProtocols: ["h2"] } : {},
    );
    sessions.set(id, session);
    const longest = target.connectTimeoutMs ?? settings.connectTimeoutMs;
    const timer = setTimeout(() => {
      session.destroy(new ConnectError(`no connection within ${longest} ms`));
    }, longest);
    session.once("connect", () => clearTimeout(timer));
    session.once("close", () => {
      clearTimeout(timer);
      if (sessions.get(id) === session) sessions.delete(id);
    });
    // Its streams get the error too, and answer; without a listener it would end the process.
    session.on("error", () => {});
    session.once("goaway", () => sessions.delete(id));
    return session;
  };

  return {
    forward: (request, response, route) => {
      const session = sessionFor(route);
      const hasBody =
        request.headers["transfer-encoding"] !== undefined ||
        (request.headers["content-length"] ?? "0") !== "0";
      const stream = session.request(headersOf(request, route), { endStream: !hasBody });
      stream.on("error", (error) => {
        if (response.headersSent) return; // `sendBack` sees that the body broke off.
        const refused = stream.rstCode === constants.NGHTTP2_REFUSED_STREAM;
        const undelivered =
          session.connecting ||
          error instanceof ConnectError ||
          refused ||
          session.alpnProtocol === undefined;
        answerError(response, undelivered ? "connect" : "response", reasonOf(error));
      });
      stream.once("response", (headers) => sendBack(headers, stream, response));
      response.once("close", () => {
        if (!response.writableFinished) stream.close(constants.NGHTTP2_CANCEL);
      });
      if (hasBody) request.pipe(stream);
      request.once("close", () => {
        if (!request.complete) stream.close(constants.NGHTTP2_CANCEL);
      });
    },
    close: () => {
      for (const session of sessions.values()) session.destroy();
    },
  };
}

function headersOf(request: IncomingMessage, { target, requestTarget }: Route): OutgoingHttpHeaders {
  const headers: Record<string, string | string[]> = {
    ":method": request.method ?? "GET",
    ":path": requestTarget ?? request.url ?? "/",
    ":scheme": target.scheme === "h2" ? "https" : "http",
    ":authority": target.host,
  };
  eachHeader(headersForPod(request.rawHeaders, target.host), (_, value, key) => {
    if (key === "host") return; // It is `:authority` here.
    const before = headers[key];
    headers[key] = before === undefined ? value : [...(Array.isArray(before) ? before : [before]), value];
  });
  // gRPC servers insist on it, and the hop before dropped it as one of its own.
  if (request.headers["content-type"]?.startsWith("application/grpc")) headers.te = "trailers";
  return headers;
}

function sendBack(headers: IncomingHttpHeaders, stream: ClientHttp2Stream, response: ServerResponse): void {
  response.sendDate = false;
  response.writeHead(Number(headers[":status"] ?? 502), headersFromPod(flat(headers)));
  response.flushHeaders();
  stream.once("trailers", (trailers) => response.addTrailers(pairs(flat(trailers))));
  stream.pipe(response, { end: false });
  let ended = false;
  stream.once("end", () => {
    // A reset ends the readable side as well; only without one was the answer whole.
    ended = stream.rstCode === constants.NGHTTP2_NO_ERROR;
    if (ended) response.end();
  });
  stream.once("close", () => {
    if (!ended) response.destroy();
  });
}

function flat(headers: IncomingHttpHeaders): string[] {
  const raw: string[] = [];
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(":") || value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) raw.push(name, one);
  }
  return raw;
}
