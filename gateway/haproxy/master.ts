/**
 * HAProxy's master process, by its CLI socket (`haproxy -W -S PATH`; management guide, "Master CLI"): which processes
 * there are, a reload, and commands for the worker that serves now.
 *
 * Works with 2.6, which closes the connection at a reload, and with later ones, which answer once it is over.
 */

import { connect } from "node:net";
import { setTimeout as wait } from "node:timers/promises";

export interface HaproxyProcesses {
  /** Process id of the master, which stays the same over reloads. */
  readonly master: number;
  /** How often the configuration has been read anew. */
  readonly reloads: number;
  /** Reloads in a row that failed, up to now; the worker from before them serves on. */
  readonly failedReloads: number;
  /** Process id of the worker that takes new connections. */
  readonly worker: number;
}

export interface HaproxyMaster {
  /** Rejects where no HAProxy answers. */
  readonly processes: () => Promise<HaproxyProcesses>;
  /**
   * Reads the configuration anew. False: HAProxy could not, and goes on with what it has. Ports that stay are handed from
   * process to process, so no connection is refused meanwhile. Rejects where HAProxy does not come back in time.
   */
  readonly reload: () => Promise<boolean>;
  /** The answer of the present worker to one command of the runtime API. */
  readonly askWorker: (command: string) => Promise<string>;
}

const ANSWER_TIMEOUT_MS = 10_000;
/** Reading a large configuration takes a while. */
const RELOAD_TIMEOUT_MS = 60_000;
const POLL_MS = 50;

export function createHaproxyMaster(socket: string): HaproxyMaster {
  const processes = async (): Promise<HaproxyProcesses> => readProcesses(await ask(socket, "show proc"));
  return {
    processes,
    askWorker: (command) => ask(socket, `@1 ${command}`),
    reload: async () => {
      const before = await processes();
      // The connection breaks at the reload in 2.6, after it in later ones; what came of it is asked for below.
      await ask(socket, "reload").catch(() => {});
      const deadline = performance.now() + RELOAD_TIMEOUT_MS;
      for (;;) {
        const now = await processes().catch((error: unknown) => {
          if (performance.now() > deadline) throw error;
          return undefined;
        });
        // One that was started meanwhile has read everything, too.
        if (now !== undefined && now.master !== before.master) return true;
        if (now !== undefined && now.reloads > before.reloads) return now.failedReloads === 0;
        if (performance.now() > deadline) throw new Error(`HAProxy did not reload: ${socket}`);
        await wait(POLL_MS);
      }
    },
  };
}

/** One command and its whole answer. */
function ask(socket: string, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const connection = connect({ path: socket, allowHalfOpen: true }, () => connection.end(`${command}\n`));
    connection.setTimeout(ANSWER_TIMEOUT_MS, () => {
      connection.destroy(
        new Error(`HAProxy gave no answer at ${socket} within ${ANSWER_TIMEOUT_MS / 1_000} s`),
      );
    });
    connection.on("data", (chunk: Buffer) => chunks.push(chunk));
    connection.on("end", () => resolve(Buffer.concat(chunks).toString()));
    connection.on("error", reject);
    connection.on("close", () => reject(new Error(`HAProxy closed the connection to ${socket}`)));
  });
}

/** Of `show proc`: a line for the master with its counts, and one for each worker below its heading. */
function readProcesses(answer: string): HaproxyProcesses {
  const master = /^(\d+)\s+master\s+(\d+)(?: \[failed: (\d+)\])?/m.exec(answer);
  const worker = /^# workers\n(\d+)\s+worker\s/m.exec(answer);
  if (master === null || worker === null)
    throw new Error(`HAProxy's master answered ${JSON.stringify(answer)} to \`show proc\``);
  return {
    master: Number(master[1]),
    reloads: Number(master[2]),
    failedReloads: Number(master[3] ?? 0),
    worker: Number(worker[1]),
  };
}
