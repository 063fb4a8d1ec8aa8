/**
 * The embedded gateway: the in-cluster hop of `fairlead dev`, so that a laptop needs no HAProxy.
 * `README.md` is the contract that both keep.
 *
 * The steps of a request: authorize (token, address) → dial the pod → pass head, body and trailers on → pass
 * the answer back. Everything that is refused or fails on the way is answered in `answer.ts`.
 */

import { createServer, type IncomingMessage, ServerResponse } from "node:http";
import { type AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createTokenVerifier, type TokenKey } from "../edge-config/gateway-token.ts";
import { type AddressSettings, createAddressPolicy } from "./allowed-addresses.ts";
import { answerError } from "./answer.ts";
import { authorize, type Route } from "./authorize.ts";
import { reasonOf, type TlsSecret } from "./dial.ts";
import { createHttp1 } from "./http1.ts";
import { createHttp2 } from "./http2.ts";

export interface GatewaySettings extends AddressSettings {
  /** Keys of tokens; any of them may have signed. */
  readonly keys: readonly TokenKey[];
  /** 127.0.0.1 by default: for the Worker on this machine and nobody else. */
  readonly host?: string;
  /** Any free one by default. */
  readonly port?: number;
  readonly connectTimeoutMs?: number;
  /** Secrets that tokens may name for TLS towards pods, by `namespace/name`; read anew for every connection. */
  readonly tlsSecret?: (name: string) => TlsSecret | undefined;
}

export interface Gateway {
  /** `http://127.0.0.1:PORT`, without slash. */
  readonly url: string;
  /** Ends all connections, those with requests under way included. */
  readonly close: () => Promise<void>;
}

/** A Worker may send 128 KB of headers. */
const MAX_HEADER_BYTES = 128 * 1024;

/** Rejects when the port cannot be had; throws a `RangeError` when a CIDR is none. */
export async function startGateway(settings: GatewaySettings): Promise<Gateway> {
  const checks = { verifier: createTokenVerifier(settings.keys), allows: createAddressPolicy(settings) };
  const dial = {
    connectTimeoutMs: settings.connectTimeoutMs ?? 5_000,
    tlsSecret: settings.tlsSecret ?? (() => undefined),
  };
  const http1 = createHttp1(dial);
  const http2 = createHttp2(dial);

  const pass = async (
    request: IncomingMessage,
    response: ServerResponse,
    send: (route: Route) => void,
  ): Promise<void> => {
    const authorization = await authorize(request.headers, checks);
    if (response.destroyed) return;
    if (authorization.kind === "refused")
      return answerError(response, authorization.error, authorization.reason);
    try {
      send(authorization.route);
    } catch (error) {
      answerError(response, "connect", reasonOf(error));
    }
  };

  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    requestTimeout: 0,
    keepAliveTimeout: 75_000,
  });
  // All of them: those that became tunnels are no longer the HTTP server's.
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("request", (request, response) => {
    void pass(request, response, (route) => {
      const isHttp2 = route.target.scheme === "h2c" || route.target.scheme === "h2";
      (isHttp2 ? http2 : http1).forward(request, response, route);
    });
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy());
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    if (socket instanceof Socket) response.assignSocket(socket);
    response.once("finish", () => socket.end());
    void pass(request, response, (route) => http1.upgrade(request, response, socket, head, route));
  });
  // Node would cut the connection without a word; a method that nobody can route gets an answer.
  server.on("connect", (_, socket: Duplex) =>
    socket.end("HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n\r\n"),
  );

  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(settings.port ?? 0, settings.host ?? "127.0.0.1", () => {
      server.off("error", reject);
      resolve();
    });
  });
  const { address, port, family } = server.address() as AddressInfo;
  return {
    url: `http://${family === "IPv6" ? `[${address}]` : address}:${port}`,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      http1.close();
      http2.close();
      await closed;
    },
  };
}
