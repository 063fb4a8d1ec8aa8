/** Ports for programs that cannot tell which one they were given for 0. */

import { randomInt } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { createServer } from "node:net";

/**
 * Below those that the kernel gives to outgoing connections and to listeners that ask for any (32768 and up on Linux), and
 * below Kubernetes' node ports: what was free when it was asked for shall still be free when a program listens on it.
 */
const FIRST = 15_000;
const LAST = 24_999;
const TRIES = 200;

/**
 * While this process lives, a UDP socket at the number less this one keeps a port from others that ask here. UDP's own
 * number stays free: a program may want both. `tests/kubernetes/apiserver` does the same with the same numbers.
 */
const HOLD_BELOW = 10_000;
const held: Socket[] = [];

/** Ports at 127.0.0.1 that nobody has, and that nobody else who asks here is given before this process has ended. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries === TRIES) throw new Error(`no ${count} free ports from ${FIRST} to ${LAST} in ${TRIES} tries`);
    const port = randomInt(FIRST, LAST + 1);
    if ((await hold(port)) && (await isFree(port))) ports.push(port);
  }
  return ports;
}

async function hold(port: number): Promise<boolean> {
  const socket = createSocket("udp4");
  return await new Promise((resolve) => {
    socket.once("error", () => resolve(false));
    socket.bind({ port: port - HOLD_BELOW, address: "127.0.0.1", exclusive: true }, () => {
      held.push(socket.unref());
      resolve(true);
    });
  });
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
