/**
 * Asks the running edge which generation of the configuration it answers from.
 *
 * An isolate looks for a newer pointer when a request finds its knowledge old, so asking also makes a saved file live sooner.
 */

import { Agent, request } from "node:http";
import { setTimeout as wait } from "node:timers/promises";

const STATUS_PATH = "/.fairlead/status";
const PAUSE_MILLISECONDS = 25;

export class EdgeProbe {
  readonly #host: string;
  readonly #port: number;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
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
    // Any routed path makes the isolate look; the status alone does not.
    await this.#get("/");
    const status = await this.#get(STATUS_PATH);
    try {
      const parsed: unknown = JSON.parse(status);
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
      // A name that no Ingress has: the probe must not show in anybody's access log.
      const headers = { host: "probe.fairlead.invalid" };
      const asking = request(
        { host: this.#host, port: this.#port, path, headers, agent: this.#agent, timeout: 2000 },
        (answer) => {
          const chunks: Buffer[] = [];
          answer.on("data", (chunk: Buffer) => chunks.push(chunk));
          answer.on("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
          answer.on("error", () => resolve(""));
        },
      );
      asking.on("timeout", () => asking.destroy());
      asking.on("error", () => resolve(""));
      asking.end();
    });
  }
}
