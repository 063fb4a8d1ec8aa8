/**
 * A KV namespace for a plain `workerd serve`: an HTTP server that speaks what a `kvNamespace` binding sends
 * (workerd's `api/kv.c++`). It counts reads and can be told to fail, which Miniflare's cannot.
 */

import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";

export class KvService {
  readonly values = new Map<string, string>();
  /** Every request that the Worker made, as the keys that it asked for. */
  readonly reads: (readonly string[])[] = [];
  /** While set, every read is answered with this status. */
  failsWith: number | undefined;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<KvService> {
    const server = createServer();
    const service = new KvService(server);
    server.on("request", (request, response) => {
      void service.#answer(request).then(({ status, body }) => response.writeHead(status).end(body));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return service;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async #answer(request: IncomingMessage): Promise<{ readonly status: number; readonly body: string }> {
    const url = new URL(request.url ?? "/", "http://kv");
    if (request.method === "POST" && url.pathname === "/bulk/get") {
      let text = "";
      for await (const chunk of request) text += String(chunk);
      const { keys } = JSON.parse(text) as { readonly keys: readonly string[] };
      this.reads.push(keys);
      if (this.failsWith !== undefined) return { status: this.failsWith, body: "" };
      return {
        status: 200,
        body: JSON.stringify(Object.fromEntries(keys.map((key) => [key, this.values.get(key) ?? null]))),
      };
    }
    const key = decodeURIComponent(url.pathname.slice(1));
    this.reads.push([key]);
    if (this.failsWith !== undefined) return { status: this.failsWith, body: "" };
    const value = this.values.get(key);
    return value === undefined ? { status: 404, body: "" } : { status: 200, body: value };
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
