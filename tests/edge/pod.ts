/**
 * A small HTTP backend that tells what it saw. It answers by path: `/echo…` (and all else) reports the request
 * as JSON; the others are named below.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

export interface Seen {
  readonly method: string;
  /** The request line's target, byte for byte. */
  readonly url: string;
  /** Lower-case names; values of a repeated header joined as Node does. */
  readonly headers: Readonly<Record<string, string>>;
  /** Name, value, name, value…, as sent. */
  readonly rawHeaders: readonly string[];
  readonly bodyLength: number;
  readonly pod: string;
}

export type PodHandler = (request: IncomingMessage, response: ServerResponse) => void;

export class Pod {
  readonly name: string;
  readonly seen: Seen[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(name: string, server: Server) {
    this.name = name;
    this.#server = server;
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
  }

  static async start(name: string, handler?: PodHandler): Promise<Pod> {
    const server = createServer({ keepAliveTimeout: 60_000 });
    const pod = new Pod(name, server);
    server.on("request", (request, response) => {
      if (handler !== undefined) handler(request, response);
      else pod.#echo(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return pod;
  }

  get server(): Server {
    return this.#server;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #echo(request: IncomingMessage, response: ServerResponse): void {
    let bodyLength = 0;
    request.on("data", (chunk: Buffer) => {
      bodyLength += chunk.length;
    });
    request.on("end", () => {
      const seen: Seen = {
        method: request.method ?? "",
        url: request.url ?? "",
        headers: request.headers as Record<string, string>,
        rawHeaders: request.rawHeaders,
        bodyLength,
        pod: this.name,
      };
      this.seen.push(seen);
      response.setHeader("Content-Type", "application/json");
      response.setHeader("X-Pod", this.name);
      response.end(JSON.stringify(seen));
    });
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
