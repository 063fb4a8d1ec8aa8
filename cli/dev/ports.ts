/** Ports that `fairlead dev` listens on. */

import { type AddressInfo, createServer } from "node:net";
import { CommandFailure } from "../failure.ts";

/** The port, or any free one for 0. Rejects with one sentence where another program has it. */
export async function findFreePort(host: string, port: number, flag: string): Promise<number> {
  const server = createServer();
  return await new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(portFailure(error, host, port, flag)));
    server.listen({ host, port, exclusive: true }, () => {
      const free = (server.address() as AddressInfo).port;
      server.close(() => resolve(free));
    });
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
