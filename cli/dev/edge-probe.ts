/** Makes the running edge look for its configuration, and tells from which generation it answers. */

import { Agent, request } from "node:http";
import { setTimeout as wait } from "node:timers/promises";

const STATUS_PATH = "/.fairlead/status?look";
const PAUSE_MILLISECONDS = 25;
const PROBE_HOST = "localhost";

export class EdgeProbe {
  readonly #host: string;
  readonly #port: number;
  readonly #prefix: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });

  /** `absolute`: the socket takes request lines in absolute form only, as behind the TLS front. */
  constructor(host: string, port: number, absolute: boolean) {
    this.#host = host;
    this.#port = port;
    this.#prefix = absolute ? `http://${PROBE_HOST}` : "";
  }

  /** True once the edge answers from this generation or a later one, false when `stop` fires before. */
  async waitForGeneration(generation: number, stop: AbortSignal): Promise<boolean> {
    while (!stop.aborted) {
      if ((await this.#generation()) >= generation) return true;
      await wait(PAUSE_MILLISECONDS);
    }
    return false;
  }

  close(): void {
    this.#agent.destroy();
  }

  async #generation(): Promise<number> {
    try {
      const parsed: unknown = JSON.parse(await this.#get(STATUS_PATH));
      if (
        typeof parsed === "object" &&
        parsed !== null &&
        "generation" in parsed &&
        typeof parsed.generation === "number"
      ) {
        return parsed.generation;
      }
    } catch {
      // Not there yet.
    }
    return -1;
  }

  #get(path: string): Promise<string> {
    return new Promise((resolve) => {
      const headers = { host: PROBE_HOST };
      const target = {
        host: this.#host,
        port: this.#port,
        path: `${this.#prefix}${path}`,
        headers,
        agent: this.#agent,
      };
      const asking = request({ ...target, timeout: 2000 }, (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
        answer.on("error", () => resolve(""));
      });
      asking.on("timeout", () => asking.destroy());
      asking.on("error", () => resolve(""));
      asking.end();
    });
  }
}
