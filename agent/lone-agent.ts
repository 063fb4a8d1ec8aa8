/**
 * One agent for one network namespace: two would give Services different places in the same maps and repair each other.
 *
 * The lock is a listening socket in the abstract name space, which belongs to the network namespace as the rules do, and
 * is gone with its process, however that ends. So a Pod that replaces another one on a node waits for it, whichever
 * container each of them is in.
 */

import { createServer, type Server } from "node:net";
import { pause } from "../cluster/watch/backoff.ts";

const NAME = "\0fairlead-agent";
const RETRY_MS = 100;

export interface Lock {
  readonly release: () => void;
}

/** Resolves when this is the only agent; `undefined`: the signal came first. `onWait` is called once if it has to wait. */
export async function beTheOnlyAgent(signal: AbortSignal, onWait: () => void): Promise<Lock | undefined> {
  for (let attempt = 0; !signal.aborted; attempt++) {
    const server = await listen();
    if (server !== undefined) return { release: () => void server.close() };
    if (attempt === 0) onWait();
    await pause(RETRY_MS, signal);
  }
  return undefined;
}

/** Runs where no agent is, and keeps one that starts waiting meanwhile. Rejects with one sentence that ends in `advice` where one is. */
export async function whileNoAgentRuns<T>(advice: string, run: () => Promise<T>): Promise<T> {
  const server = await listen();
  if (server === undefined)
    throw new Error(`An agent runs in this network namespace and would undo this: end it first${advice}.`);
  try {
    return await run();
  } finally {
    server.close();
  }
}

function listen(): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(undefined);
      else reject(error);
    });
    server.listen({ path: NAME }, () => {
      server.unref();
      resolve(server);
    });
  });
}
