/** The control service as `deploy/` runs it, in a process of its own beside a server and a local edge, and what it tells. */

import { readFileSync } from "node:fs";
import { loadavg } from "node:os";
import type { PublicationTimings } from "../../control/kv/publisher.ts";
import { ControlProcess } from "../../tests/kubernetes/support/control-process.ts";
import { eventually, type LocalEdge } from "../../tests/kubernetes/support/local-edge.ts";
import { hostName, INGRESSES } from "./cluster.ts";

/**
 * As `deploy/` runs it: without a bound, V8 lets garbage pile up for as long as the machine has memory. 60 % of the
 * Deployment's limit of 768 MiB.
 */
const NODE_FLAGS = ["--max-old-space-size=460", "--max-semi-space-size=16"];

/** Starts the service and returns once the edge answers for the last host. */
export async function startControl(
  server: { readonly kubeconfig: string },
  edge: LocalEdge,
): Promise<{ readonly control: ControlProcess; readonly firstMs: number }> {
  const startedMs = performance.now();
  const control = await ControlProcess.startWith(NODE_FLAGS, server, edge);
  await eventually(
    async () => published(control).length,
    (count) => count > 0,
    120,
  );
  const firstMs = performance.now() - startedMs;
  await eventually(
    () => edge.get(hostName(INGRESSES - 1)),
    ({ pod }) => pod !== undefined,
  );
  return { control, firstMs };
}

/** The times of every publication so far, as the log tells them. */
export function published(control: ControlProcess): readonly PublicationTimings[] {
  return control.log
    .filter((line) => line.includes('"published"'))
    .map((line) => JSON.parse(line) as PublicationTimings);
}

/** The most that the process ever held (`VmHWM`). */
export function highestResidentMiB({ pid }: ControlProcess): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kib) / 1_024;
}

/** Of the last minute: with more than there are cores, whatever is measured waits for the others, too. */
export function loadAverage(): number {
  return loadavg()[0] ?? Number.NaN;
}

export async function timed(action: () => Promise<void>): Promise<number> {
  const beganMs = performance.now();
  await action();
  return performance.now() - beganMs;
}
