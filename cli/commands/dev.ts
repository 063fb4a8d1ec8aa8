/** `fairlead dev`: reads the command line, and ends on SIGINT or SIGTERM. What it does is in `../dev/dev.ts`. */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { ObjectName } from "../../cluster/model.ts";
import type { ProxyVersion } from "../../gateway/proxy-protocol.ts";
import type { DevOptions } from "../dev/dev.ts";
import { UsageError } from "../failure.ts";
import {
  addCompilerOptions,
  addFileOption,
  compileOptions,
  configMapName,
  type FileFlags,
} from "../manifest-input.ts";

/** After this long what has not ended is left to the system. */
const LONGEST_FAREWELL_MILLISECONDS = 4500;

interface DevFlags extends FileFlags {
  readonly port: number;
  readonly controlPort: number;
  readonly protocol: "http" | "https";
  readonly accessLog?: true;
  readonly tcpServices?: ObjectName;
  readonly udpServices?: ObjectName;
  readonly proxyProtocol: ProxyVersion;
}

export function registerDev(program: Command): void {
  const command = program
    .command("dev")
    .summary("run the whole edge on this machine")
    .description(
      "Runs the whole edge on this machine: follows the manifests, compiles them, and serves them with the real Worker. " +
        "Prints `ready URL` once the edge answers; a saved file is live within two seconds.",
    );
  addCompilerOptions(addFileOption(command))
    .argument("[paths...]", "more manifests")
    .option("--port <number>", "port of the edge; 0 takes any", port, 8787)
    .addOption(
      new Option("--protocol <name>", "what the edge speaks").choices(["http", "https"]).default("http"),
    )
    .option("--control-port <number>", "port of the control API; 0 takes any", port, 8788)
    .option("--tcp-services <namespace/name>", "ConfigMap of TCP services to listen for", configMapName)
    .option("--udp-services <namespace/name>", "ConfigMap of UDP services to listen for", configMapName)
    .addOption(
      new Option("--proxy-protocol <version>", "of the PROXY headers that pods of TCP services get")
        .choices(["v1", "v2"])
        .default("v1"),
    )
    .option("--access-log", "write a line of JSON for each answer")
    .action(async (morePaths: readonly string[], flags: DevFlags) => {
      const paths = [...(flags.file ?? []), ...morePaths];
      if (paths.length === 0) throw new UsageError("-f PATH is missing: it names the manifests to follow.");
      if (paths.includes("-")) throw new UsageError("-f - cannot be followed; files and folders can.");
      const { controlPort, protocol } = flags;
      await runUntilSignal({
        paths,
        port: flags.port,
        controlPort,
        protocol,
        accessLog: flags.accessLog === true,
        compile: compileOptions(flags),
        exposed: {
          proxyProtocol: flags.proxyProtocol,
          ...(flags.tcpServices === undefined ? {} : { tcpServices: flags.tcpServices }),
          ...(flags.udpServices === undefined ? {} : { udpServices: flags.udpServices }),
        },
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

function port(text: string): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number <= 65535) return number;
  throw new InvalidArgumentError("A port from 0 to 65535 is expected.");
}
