/** Ports that `fairlead dev` listens on. */

import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { CommandFailure } from "../failure.ts";

/**
 * Where a port for 0 is looked for: below those that the kernel gives to outgoing connections (32768 and up on Linux) and
 * below Kubernetes' node ports. It is asked for before it is listened on, and nobody else shall get it in between.
 */
const ANY = { first: 15_000, last: 29_999, tries: 50 } as const;

/** The port, or any free one for 0. Rejects with one sentence where another program has it. */
export async function findFreePort(host: string, port: number, flag: string): Promise<number> {
  if (port !== 0) return await tryPort(host, port, flag);
  for (let left: number = ANY.tries; ; left--) {
    const candidate = randomInt(ANY.first, ANY.last + 1);
    try {
      return await tryPort(host, candidate, flag);
    } catch (error) {
      if (left === 1) throw error;
    }
  }
}

async function tryPort(host: string, port: number, flag: string): Promise<number> {
  const server = createServer();
  return await new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(portFailure(error, host, port, flag)));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(port)));
  });
}

export function portFailure(
  error: NodeJS.ErrnoException,
  host: string,
  port: number,
  flag: string,
): CommandFailure {
  if (error.code === "EADDRINUSE") {
    return new CommandFailure(
      `Port ${port} of ${host} is taken by another program; choose another one with ${flag}.`,
    );
  }
  if (error.code === "EACCES") {
    return new CommandFailure(
      `Listening on port ${port} of ${host} is not permitted; choose one above 1023 with ${flag}.`,
    );
  }
  return new CommandFailure(`Listening on port ${port} of ${host} failed: ${error.message}.`);
}
