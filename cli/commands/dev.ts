/** `fairlead dev`: reads the command line, and ends on SIGINT or SIGTERM. What it does is in `../dev/dev.ts`. */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { DevOptions } from "../dev/dev.ts";

/** After this long what has not ended is left to the system. */
const LONGEST_FAREWELL_MILLISECONDS = 4500;

interface DevFlags {
  readonly file: readonly string[];
  readonly port: number;
  readonly controlPort: number;
  readonly protocol: "http" | "https";
  readonly ingressClass?: string;
  readonly configmap?: `${string}/${string}`;
  readonly compat?: "kubernetes" | "nginx";
  readonly accessLog?: true;
}

export function registerDev(program: Command): void {
  program
    .command("dev")
    .summary("run the whole edge on this machine")
    .description(
      "Runs the whole edge on this machine: follows the manifests, compiles them, and serves them with the real Worker. " +
        "Prints `ready URL` once the edge answers; a saved file is live within two seconds.",
    )
    .requiredOption("-f, --file <path>", "file or folder of manifests; may be repeated", collect)
    .option("--port <number>", "port of the edge; 0 takes any", port, 8787)
    .addOption(
      new Option("--protocol <name>", "what the edge speaks").choices(["http", "https"]).default("http"),
    )
    .option("--control-port <number>", "port of the control API; 0 takes any", port, 8788)
    .option("--ingress-class <name>", "only Ingresses of this class count (default: every Ingress)")
    .option("--configmap <namespace/name>", "ConfigMap with the controller's settings", configMapName)
    .addOption(
      new Option("--compat <name>", "whose rule counts where nginx and the Kubernetes specification disagree")
        .choices(["kubernetes", "nginx"])
        .default("kubernetes"),
    )
    .option("--access-log", "write a line of JSON for each answer")
    .action(async (flags: DevFlags) => {
      await runUntilSignal({
        paths: flags.file,
        port: flags.port,
        controlPort: flags.controlPort,
        protocol: flags.protocol,
        ...(flags.ingressClass === undefined ? {} : { ingressClass: flags.ingressClass }),
        ...(flags.configmap === undefined ? {} : { configMap: flags.configmap }),
        ...(flags.compat === undefined ? {} : { compat: flags.compat }),
        accessLog: flags.accessLog === true,
      });
    });
}

async function runUntilSignal(options: DevOptions): Promise<void> {
  const { runDev } = await import("../dev/dev.ts");
  const stop = new AbortController();
  const end = (): void => {
    if (stop.signal.aborted) return;
    stop.abort();
    setTimeout(() => process.exit(0), LONGEST_FAREWELL_MILLISECONDS).unref();
  };
  process.on("SIGINT", end);
  process.on("SIGTERM", end);
  await runDev(
    options,
    {
      result: (line) => process.stdout.write(`${line}\n`),
      note: (line) => process.stderr.write(`${line}\n`),
    },
    stop.signal,
  );
}

function collect(path: string, paths: readonly string[] = []): readonly string[] {
  return [...paths, path];
}

function port(text: string): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number <= 65535) return number;
  throw new InvalidArgumentError("A port from 0 to 65535 is expected.");
}

function configMapName(text: string): string {
  if (/^[^/\s]+\/[^/\s]+$/.test(text)) return text;
  throw new InvalidArgumentError("NAMESPACE/NAME is expected.");
}
