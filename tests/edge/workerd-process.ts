/**
 * A plain `workerd serve` process, as a person would host the Worker themselves: no Miniflare, no proxy in
 * front, so that what arrives and leaves is what the Worker made of it. Tests and benchmarks share it.
 */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { cryptoAlias } from "../../cli/dev/worker-bundle.ts";

/** As in `wrangler.toml`. */
export const COMPATIBILITY_DATE = "2026-10-01";
export const COMPATIBILITY_FLAGS: readonly string[] = ["enable_request_signal"];

/** Wrangler's own workerd: the one that knows our compatibility date. */
function workerdPath(): string {
  const wrangler = createRequire(createRequire(import.meta.url).resolve("wrangler"));
  const workerd = createRequire(wrangler.resolve("workerd"));
  return workerd.resolve(
    `@cloudflare/workerd-${process.platform}-${process.arch === "x64" ? "64" : process.arch}/bin/workerd`,
  );
}

/** As `workerd --version` says it: the newest date of compatibility. */
export function workerdVersion(): string {
  return execFileSync(workerdPath(), ["--version"], { encoding: "utf8" }).trim();
}

/** One ES module with all that it imports, as wrangler would bundle it. */
export async function bundleModule(
  entry: string,
  options: { readonly minify?: boolean } = {},
): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    format: "esm",
    target: "es2024",
    conditions: ["workerd", "worker", "browser"],
    external: ["cloudflare:*", "node:*"],
    alias: cryptoAlias(),
    minify: options.minify ?? false,
    write: false,
    logLevel: "error",
  });
  return outputFiles[0]?.text ?? "";
}

export interface WorkerdOptions {
  /** Source of the main module. */
  readonly module: string;
  /** Text bindings. */
  readonly vars?: Readonly<Record<string, string>>;
  /** KV bindings: name → address of a `KvService`. */
  readonly kv?: Readonly<Record<string, string>>;
}

export class WorkerdProcess {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #log: string[];

  private constructor(port: number, child: ChildProcess, folder: string, log: string[]) {
    this.port = port;
    this.#child = child;
    this.#folder = folder;
    this.#log = log;
  }

  static async start({ module, vars = {}, kv = {} }: WorkerdOptions): Promise<WorkerdProcess> {
    const folder = mkdtempSync(join(tmpdir(), "fairlead-workerd-"));
    writeFileSync(join(folder, "worker.js"), module);
    writeFileSync(join(folder, "config.capnp"), configText(vars, kv));
    const child = spawn(workerdPath(), ["serve", "config.capnp", "--control-fd=3"], {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe", "pipe"],
    });
    const log: string[] = [];
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (chunk: Buffer) => log.push(String(chunk)));
    const port = await new Promise<number>((resolve, reject) => {
      let text = "";
      child.stdio[3]?.on("data", (chunk: Buffer) => {
        text += String(chunk);
        const listening = /"event":"listen","socket":"http","port":(\d+)/.exec(text);
        if (listening !== null) resolve(Number(listening[1]));
      });
      child.once("exit", (code) => reject(new Error(`workerd ended with ${code}: ${log.join("")}`)));
    });
    return new WorkerdProcess(port, child, folder, log);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** What it has printed so far. */
  get log(): string {
    return this.#log.join("");
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = new Promise((resolve) => this.#child.once("exit", resolve));
      this.#child.kill("SIGKILL");
      await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function configText(vars: Readonly<Record<string, string>>, kv: Readonly<Record<string, string>>): string {
  const bindings = [
    ...Object.entries(vars).map(([name, value]) => `(name = "${name}", text = ${JSON.stringify(value)})`),
    ...Object.keys(kv).map((name) => `(name = "${name}", kvNamespace = "kv-${name}")`),
  ];
  const services = [
    `(name = "main", worker = (
      modules = [(name = "worker.js", esModule = embed "worker.js")],
      compatibilityDate = "${COMPATIBILITY_DATE}",
      compatibilityFlags = [${COMPATIBILITY_FLAGS.map((flag) => `"${flag}"`).join(", ")}],
      bindings = [${bindings.join(", ")}],
      globalOutbound = "network"))`,
    `(name = "network", network = (allow = ["public", "private"]))`,
    ...Object.entries(kv).map(
      ([name, address]) => `(name = "kv-${name}", external = (address = "${address}", http = ()))`,
    ),
  ];
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [${services.join(",\n    ")}],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")]
);
`;
}
