/** `fairlead agent watch`: Services, rates and refusals of this node, live in a terminal or page by page in a pipe. */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { BackendName } from "../../agent/backends/backend.ts";
import { pause } from "../../cluster/watch/backoff.ts";
import { CommandFailure } from "../failure.ts";

interface Flags {
  readonly backend: BackendName;
  readonly interval: number;
  readonly count?: number;
}

const CLEAR = "\u001b[H\u001b[2J";

export function registerAgentWatch(agent: Command): void {
  agent
    .command("watch")
    .summary("show this node's Services, rates and refusals as they change")
    .description(
      "Shows new connections by Service port and refused ones by reason, as this node's kernel counts them.",
    )
    .addOption(
      new Option("--backend <backend>", "whose counters: nftables, iptables or ipvs")
        .choices(["nftables", "iptables", "ipvs"])
        .default("nftables")
        .env("FAIRLEAD_BACKEND"),
    )
    .option("--interval <seconds>", "between two pages", seconds, 2)
    .option("--count <pages>", "end after so many (default: never)", pages)
    .action(runWatch);
}

async function runWatch({ backend, interval, count }: Flags): Promise<void> {
  const { readCounters } = await import("../../agent/service-counters.ts");
  const { renderPage } = await import("../../agent/watch.ts");
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop.abort());
  // Pages are for a reader; without one (`| head`) it ends well.
  process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => {
    if (code === "EPIPE") stop.abort();
  });
  let before: Awaited<ReturnType<typeof readCounters>> | undefined;
  let readAtMs = 0;
  for (let page = 0; !stop.signal.aborted && page !== count; page++) {
    if (page > 0) await pause(interval * 1_000, stop.signal);
    if (stop.signal.aborted) break;
    const now = await readCounters(backend, ["IPv4", "IPv6"]).catch((error: unknown) => {
      throw new CommandFailure(error instanceof Error ? error.message : String(error));
    });
    const nowMs = performance.now();
    const { isTTY, rows = 24, columns = 80 } = process.stdout;
    const limits = isTTY ? { rows, columns } : { rows: 10_000, columns: 1_000 };
    const text = renderPage(before, now, (nowMs - readAtMs) / 1_000, limits);
    process.stdout.write(`${isTTY ? CLEAR : ""}${new Date().toISOString().slice(0, 19)}Z\n${text}`);
    [before, readAtMs] = [now, nowMs];
  }
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(value >= 0.2 && value <= 3_600))
    throw new InvalidArgumentError("Expected are seconds from 0.2 to 3600.");
  return value;
}

function pages(text: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new InvalidArgumentError("Expected is a whole number above 0.");
  return Number(text);
}
