/**
 * The socket that clients reach with `fairlead dev --protocol http`: every byte passes to the Worker's own socket and back.
 *
 * It is here for one reason. A client that goes away while a pod is still thinking closes its connection; workerd reads that
 * as "nothing more to send" and waits on, so neither the pod nor a limit on connections would ever learn of it. In
 * production Cloudflare tells the Worker. Here such a connection is *reset* towards workerd, which it does understand.
 */

import { createServer, type Server, type Socket } from "node:net";
import { portFailure } from "./ports.ts";
import { connectToWorker } from "./worker-socket.ts";

export interface Front {
  readonly close: () => Promise<void>;
}

/**
 * A client may also close only its sending side and wait for the answer. nginx takes that for gone at once (499); here it has
 * this long, so that scripts that do it get answers that need no pod or a quick one.
 */
const HALF_CLOSED_MILLISECONDS = 300;

/** nginx's `lingering_timeout`. */
const LINGER_MILLISECONDS = 5000;

export async function startTcpFront(host: string, port: number, workerPort: number): Promise<Front> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const worker = connectToWorker(workerPort);
    sockets.add(client);
    client.on("close", () => {
      sockets.delete(client);
      worker.resetAndDestroy();
    });
    client.on("end", () => setTimeout(() => worker.resetAndDestroy(), HALF_CLOSED_MILLISECONDS).unref());
    worker.on("close", () => {
      // Closing with bytes unread would reset the connection and take the answer from a client that is still sending.
      client.unpipe(worker);
      client.resume();
      client.end();
      setTimeout(() => client.destroy(), LINGER_MILLISECONDS).unref();
    });
    // Each end tells the other by closing; an error is always followed by that.
    client.on("error", () => {});
    worker.on("error", () => {});
    client.pipe(worker, { end: false });
    worker.pipe(client);
  });
  await listen(server, host, port);
  return {
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** Rejects with one sentence where the port cannot be had. */
export async function listen(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(portFailure(error, host, port, "--port")));
    server.listen({ host, port }, resolve);
  });
}
