/**
 * Runs the edge Worker in workerd, on this machine.
 *
 * In: the Worker's code and the settings that only this run knows. Out: a socket that is the Worker's own, and the base
 * URL of the local explorer API, to which the KV client writes as it does to Cloudflare.
 *
 * The vehicle is Miniflare in the version that wrangler pins, with the bindings and variables of `wrangler.toml`. Not
 * `wrangler dev`: its proxy in front replaces Accept-Encoding, decodes and encodes answers, keeps `/cdn-cgi/` to itself and
 * costs a second workerd. A *direct socket* has none of that before the Worker: Host, path and bytes come as sent.
 */

import { readFileSync } from "node:fs";
import type { Miniflare } from "miniflare";
import { CommandFailure } from "../failure.ts";
import { wrapWorkerd } from "./workerd-program.ts";
import { readWranglerConfig } from "./wrangler-config.ts";

export interface WorkerRuntimeOptions {
  /** Path of `wrangler.toml`. */
  readonly configPath: string;
  /** The Worker as one module of JavaScript. */
  readonly script: string;
  /** Scheme and host of a request stand in its request line (RFC 9112 §3.2.2): the TLS front tells them there. */
  readonly absoluteTargets: boolean;
  /** Replace variables of `wrangler.toml`. */
  readonly variables: Readonly<Record<string, string>>;
  /** A line that the Worker or workerd wrote. */
  readonly onLine: (line: string) => void;
}

export interface WorkerRuntime {
  /** Of the Worker's own socket. */
  readonly port: number;
  /** For `createKvClient`. */
  readonly kvBaseUrl: string;
  /** Id of the namespace that the Worker reads. */
  readonly kvNamespaceId: string;
  readonly close: () => Promise<void>;
}

const SHARDS_BINDING = "SHARDS";

export async function startWorkerRuntime(options: WorkerRuntimeOptions): Promise<WorkerRuntime> {
  // Takes a third of a second to load, so only `dev` does.
  const { convertV4MiniflareOptions, Log, LogLevel, Miniflare } = await import("miniflare");
  const config = readWranglerConfig(readFileSync(options.configPath, "utf8"));
  const kvNamespaceId = config.kvNamespaces[SHARDS_BINDING];
  if (kvNamespaceId === undefined) {
    throw new CommandFailure(
      `${options.configPath} names no KV namespace with the binding ${SHARDS_BINDING}.`,
    );
  }
  wrapWorkerd();
  const signals = keepSignalHandlers();
  const runtime = new Miniflare(
    convertV4MiniflareOptions({
      host: "127.0.0.1",
      port: 0,
      cf: false,
      log: new Log(LogLevel.ERROR),
      logRequests: false,
      liveReload: false,
      unsafeLocalExplorer: true,
      handleStructuredLogs: ({ message }: { readonly message: string }) => options.onLine(message),
      workers: [
        {
          name: "fairlead",
          modules: [{ type: "ESModule", path: "worker.js", contents: options.script }],
          compatibilityDate: config.compatibilityDate,
          compatibilityFlags: [...config.compatibilityFlags],
          bindings: { ...config.variables, ...options.variables },
          kvNamespaces: config.kvNamespaces,
          durableObjects: config.durableObjects,
          unsafeDirectSockets: [{ host: "127.0.0.1", port: 0, proxy: options.absoluteTargets }],
        },
      ],
    } as Parameters<typeof convertV4MiniflareOptions>[0]),
  );
  signals.restore();
  try {
    const main = await runtime.ready;
    const socket = await runtime.unsafeGetDirectURL("fairlead");
    return {
      port: Number(socket.port),
      kvBaseUrl: new URL("/cdn-cgi/local/explorer/api", main).href,
      kvNamespaceId,
      close: () => disposeOf(runtime),
    };
  } catch (error) {
    await disposeOf(runtime);
    throw new CommandFailure(
      `The Worker cannot start in workerd: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** Miniflare ends the process on a signal, with an exit code of its own. How this program ends is its own matter. */
function keepSignalHandlers(): { readonly restore: () => void } {
  const ours = (["SIGINT", "SIGTERM"] as const).map(
    (signal) => [signal, new Set(process.listeners(signal))] as const,
  );
  return {
    restore: () => {
      for (const [signal, listeners] of ours) {
        for (const listener of process.listeners(signal)) {
          if (!listeners.has(listener)) process.removeListener(signal, listener);
        }
      }
    },
  };
}

async function disposeOf(runtime: Miniflare): Promise<void> {
  // A runtime that never started rejects here as well, and has told why already.
  await runtime.dispose().catch(() => {});
}
