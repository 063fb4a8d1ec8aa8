/**
 * The network between two programs, which can be lost: nothing passes, nobody is told, and new connections hang. When it
 * comes back, old connections go on, or are dead without a word (as when a NAT on the way forgot them).
 */

import { readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import type { ApiServer } from "./api-server.ts";

export class Network {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** Resolves when the network is there again. */
  #back: PromiseWithResolvers<void> | undefined;

  private constructor(server: Server, targetPort: number) {
    this.#server = server;
    server.on("connection", async (client) => {
      client.on("error", () => {});
      await this.#back?.promise;
      const target = connect(targetPort, "127.0.0.1");
      const pair = [client, target] as const;
      this.#pairs.add(pair);
      for (const [one, other] of [pair, [target, client] as const]) {
        one.on("error", () => {});
        one.on("close", () => {
          this.#pairs.delete(pair);
          other.destroy();
        });
        one.pipe(other);
      }
      if (this.#back !== undefined) halt(pair);
    });
  }

  static async to(targetPort: number): Promise<Network> {
    const server = createServer({ noDelay: true });
    const network = new Network(server, targetPort);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return network;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  lose(): void {
    this.#back ??= Promise.withResolvers();
    for (const pair of this.#pairs) halt(pair);
  }

  restore(oldConnections: "go on" | "are dead"): void {
    this.#back?.resolve();
    this.#back = undefined;
    if (oldConnections === "are dead") return;
    for (const [one, other] of this.#pairs) {
      one.pipe(other);
      other.pipe(one);
    }
  }

  async close(): Promise<void> {
    this.#back?.resolve();
    for (const [one, other] of this.#pairs) {
      one.destroy();
      other.destroy();
    }
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

/** Sockets that are not read fill up; their peers wait. */
function halt([one, other]: readonly [Socket, Socket]): void {
  one.unpipe(other).pause();
  other.unpipe(one).pause();
}

/** A kubeconfig that leads to the server through a network of its own. */
export async function networkTo(
  server: ApiServer,
): Promise<{ readonly network: Network; readonly kubeconfig: string }> {
  const text = readFileSync(server.kubeconfig, "utf8");
  const port = Number(/server: https:\/\/127\.0\.0\.1:(\d+)/.exec(text)?.[1]);
  const network = await Network.to(port);
  const kubeconfig = `${server.kubeconfig}-${network.port}`;
  writeFileSync(kubeconfig, text.replace(`127.0.0.1:${port}`, `127.0.0.1:${network.port}`));
  return { network, kubeconfig };
}
