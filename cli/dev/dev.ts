/**
 * `fairlead dev`: the whole edge on this machine. The steps, in order:
 *
 * ports → manifests → Worker in workerd and gateway → publish to the local KV → wait until the edge answers from it →
 * `ready` → follow the files, until a signal comes.
 *
 * In: options, a place for lines, a signal to stop. Out: nothing, once everything has ended. Not here: how each part
 * works; the parts are the production ones (cluster, control/compile, control/kv, worker, gateway).
 */

import { watchManifestFiles } from "../../cluster/watch-files.ts";
import { createKvClient } from "../../control/kv/client.ts";
import { createPublisher, LOCAL_PACE, type PublisherEvent } from "../../control/kv/publisher.ts";
import type { EdgeConfig } from "../../edge-config/config.ts";
import { DiagnosticsPrinter } from "./diagnostics-printer.ts";
import { EdgeProbe } from "./edge-probe.ts";
import { ManifestPipeline } from "./manifest-pipeline.ts";
import { findFreePort } from "./ports.ts";
import { loadWorker } from "./worker-bundle.ts";
import { startWorkerRuntime } from "./worker-runtime.ts";

export interface DevOptions {
  readonly paths: readonly string[];
  /** 0: any free one, told by the `ready` line. */
  readonly port: number;
  readonly controlPort: number;
  readonly protocol: "http" | "https";
  readonly ingressClass?: string;
  /** `namespace/name`. */
  readonly configMap?: `${string}/${string}`;
}

export interface DevOutput {
  /** A line for programs: `ready …`. */
  readonly result: (line: string) => void;
  /** A line for people. */
  readonly note: (line: string) => void;
}

/** Only this machine is served: endpoints on loopback are allowed, and nobody else shall reach them. */
const HOST = "127.0.0.1";

/** Small, so that a saved file is live within two seconds even when nobody asks meanwhile. */
const REFRESH_SECONDS = "0.2";
const MAX_STALE_SECONDS = "0.8";

/** Runs until `stop` fires. Rejects with a `CommandFailure` where it cannot start. */
export async function runDev(options: DevOptions, output: DevOutput, stop: AbortSignal): Promise<void> {
  const closing: (() => Promise<void> | void)[] = [];
  try {
    // The Worker tells pods the port that clients reach, so it must be known before the Worker starts.
    const port = await findFreePort(HOST, options.port, "--port");
    await findFreePort(HOST, options.controlPort, "--control-port");

    const pipeline = new ManifestPipeline(options.paths, {
      allowLocalAddresses: true,
      ...(options.ingressClass === undefined ? {} : { ingressClass: options.ingressClass }),
      ...(options.configMap === undefined ? {} : { configMap: options.configMap }),
    });
    const printer = new DiagnosticsPrinter(output.note);
    const changes = new Changes();
    const watch = await watchManifestFiles(options.paths, () => changes.note());
    closing.push(() => watch.close());
    const worker = await loadWorker();
    const first = await pipeline.compile();
    printer.show(first.diagnostics);
    if (stop.aborted) return;

    const runtime = await startWorkerRuntime({
      ...worker,
      host: HOST,
      port,
      behindFront: false,
      variables: {
        REFRESH_SECONDS,
        MAX_STALE_SECONDS,
        STATUS: "on",
        ORIGIN_TRANSPORT: "direct",
        LISTEN_PORT: String(port),
      },
      onLine: (line) => output.note(`worker: ${line}`),
    });
    closing.push(() => runtime.close());
    if (stop.aborted) return;

    const probe = new EdgeProbe(HOST, runtime.port);
    const publisher = createPublisher({
      client: createKvClient({ baseUrl: runtime.kvBaseUrl, namespaceId: runtime.kvNamespaceId }),
      pace: LOCAL_PACE,
      onEvent: (event) => tellFailure(event, output.note),
    });
    closing.push(() => publisher.close());

    /** Publishes and waits until the edge answers from it. */
    const bring = async (config: EdgeConfig, since: number): Promise<void> => {
      publisher.submit(config);
      await publisher.settled();
      const generation = publisher.status().generation;
      if (generation === undefined) return;
      if (await probe.waitForGeneration(generation, stop))
        output.note(summary(config, generation, performance.now() - since));
    };
    await bring(first.config, performance.now());
    if (stop.aborted) return;
    output.result(`ready ${options.protocol}://${HOST}:${runtime.port}`);

    let live = first.config;
    for (;;) {
      const since = await changes.next(stop);
      if (since === undefined) return;
      const compiled = await pipeline.compile();
      printer.show(compiled.diagnostics);
      if (compiled.config === live || JSON.stringify(compiled.config) === JSON.stringify(live)) {
        output.note("unchanged: the files were saved, and what they say stays the same");
        continue;
      }
      live = compiled.config;
      await bring(live, since);
    }
  } finally {
    for (const close of closing.reverse()) await close();
  }
}

/** Counts what changed while the last change was still being worked on as one. */
class Changes {
  #since: number | undefined;
  #wake: (() => void) | undefined;

  note(): void {
    this.#since ??= performance.now();
    this.#wake?.();
  }

  /** When the oldest change that nobody has taken was noticed; undefined once `stop` fires. */
  async next(stop: AbortSignal): Promise<number | undefined> {
    if (this.#since === undefined && !stop.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        stop.addEventListener("abort", () => resolve(), { once: true });
      });
      this.#wake = undefined;
    }
    const since = this.#since;
    this.#since = undefined;
    return stop.aborted ? undefined : since;
  }
}

/** What went wrong on the way to the local KV. What went right is told once the edge answers from it. */
function tellFailure(event: PublisherEvent, note: (line: string) => void): void {
  if (event.kind === "failed") note(`publishing failed and is tried again: ${event.error.message}`);
  if (event.kind === "rejected") note(`the configuration cannot be published: ${event.error.message}`);
}

function summary(config: EdgeConfig, generation: number, milliseconds: number): string {
  const hosts = Object.keys(config.hosts).length;
  const endpoints = Object.values(config.backends).reduce(
    (sum, backend) => sum + backend.endpoints.length,
    0,
  );
  return `live: generation ${generation}, ${count(hosts, "host")}, ${count(endpoints, "endpoint")}, after ${Math.round(milliseconds)} ms`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
