/** The way to KV, with its hardships: everything passes to the real local KV, slowly, in part or not at all. */

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

export type Hardship =
  | { readonly kind: "none" }
  | { readonly kind: "slow"; readonly ms: number }
  /** Every second key of a bulk write is stored; then the connection is cut. */
  | { readonly kind: "half" }
  /** 503, and nothing is stored. */
  | { readonly kind: "down" }
  /** Nothing arrives and nothing is answered, until the hardship is another one; then the connection is cut. */
  | { readonly kind: "lost" };

export class KvProxy {
  #hardship: Hardship = { kind: "none" };
  /** Requests that hang. */
  #hanging: (() => void)[] = [];
  /** Keys of every write that came, in order. */
  readonly writes: (readonly string[])[] = [];
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(target: string): Promise<KvProxy> {
    const server = createServer();
    const proxy = new KvProxy(server);
    server.on("request", async (request, response) => {
      const body = await buffer(request);
      if (proxy.hardship.kind === "lost") {
        proxy.#hanging.push(() => request.socket.destroy());
        return;
      }
      const isBulk = request.method === "PUT" && /\/bulk(\?|$)/.test(request.url ?? "");
      if (request.method === "PUT")
        proxy.writes.push(isBulk ? keysOf(body) : [lastSegment(request.url ?? "")]);
      const { hardship } = proxy;
      if (hardship.kind === "down") return void response.writeHead(503).end();
      if (hardship.kind === "slow") await new Promise((resolve) => setTimeout(resolve, hardship.ms));
      const sent = hardship.kind === "half" && isBulk ? everySecond(body) : body;
      const answer = await fetch(target + (request.url ?? ""), {
        method: request.method ?? "GET",
        headers: { "content-type": request.headers["content-type"] ?? "application/octet-stream" },
        ...(body.length === 0 ? {} : { body: new Uint8Array(sent) }),
      });
      const bytes = Buffer.from(await answer.arrayBuffer());
      if (hardship.kind === "half" && isBulk) return void request.socket.destroy();
      response
        .writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" })
        .end(bytes);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get hardship(): Hardship {
    return this.#hardship;
  }

  set hardship(hardship: Hardship) {
    this.#hardship = hardship;
    if (hardship.kind !== "lost") for (const cut of this.#hanging.splice(0)) cut();
  }

  get baseUrl(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

function keysOf(body: Buffer): readonly string[] {
  return (JSON.parse(body.toString()) as { readonly key: string }[]).map(({ key }) => key);
}

function lastSegment(url: string): string {
  return decodeURIComponent(url.slice(url.lastIndexOf("/") + 1).split("?")[0] ?? "");
}

function everySecond(body: Buffer): Buffer {
  const pairs = JSON.parse(body.toString()) as unknown[];
  return Buffer.from(JSON.stringify(pairs.filter((_, at) => at % 2 === 0)));
}
