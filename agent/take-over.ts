/**
 * Takes the node over from whoever programmed it before: removes their rules, once ours stand, and tries again what could
 * not be removed.
 */

import { pause } from "../cluster/watch/backoff.ts";
import type { BackendName } from "./backends/backend.ts";
import { removeLeftovers } from "./leftovers.ts";
import type { SideRulesName } from "./side-rules/side-rules.ts";

export interface TakeOverOptions {
  readonly backend: BackendName;
  readonly sideRules: readonly SideRulesName[];
  readonly procSys: string;
  readonly say: (line: string) => void;
  readonly stop: AbortSignal;
}

const RETRY_MS = 15_000;
const WAITING = "IPVS virtual servers stay until the connections through them have ended.";

export class TakeOver {
  readonly #options: TakeOverOptions;
  #running: Promise<void> | undefined;

  constructor(options: TakeOverOptions) {
    this.#options = options;
  }

  /** Returns at once: changes of Services do not wait for it. */
  begin(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    const { backend, sideRules, procSys, say, stop } = this.#options;
    let told = "";
    while (!stop.aborted) {
      const { removed, problems, openIpvsConnections } = await removeLeftovers(backend, sideRules, {
        procSys,
      });
      if (removed.length > 0) say(`Removed what another proxy had left: ${removed.join(", ")}.`);
      if (problems.length === 0 && openIpvsConnections === 0) return;
      const text = [...problems, ...(openIpvsConnections > 0 ? [WAITING] : [])].join(" ");
      if (text !== told) say(text);
      told = text;
      await pause(RETRY_MS, stop);
    }
  }
}
