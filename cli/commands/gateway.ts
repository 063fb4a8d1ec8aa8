/**
 * `fairlead gateway`: HAProxy's configuration as the gateway of a cluster, written once (`render`) or kept up to date
 * (`follow`). What it says is in `gateway/haproxy/`; the contract it keeps is `gateway/README.md`.
 */

import { join, resolve } from "node:path";
import { type Command, Option } from "commander";
import { formatDiagnostic } from "../../cluster/diagnostic.ts";
import type { HaproxySettings } from "../../gateway/haproxy/settings.ts";
import { UsageError } from "../failure.ts";
import {
  absolutePath,
  addGatewayOptions,
  flagThatNeedsObjects,
  type GatewayFlags,
  readSettings,
  readTcpSettings,
  usage,
} from "../gateway-settings.ts";
import { addCompilerOptions, addFileOption, compileOptions, readCluster } from "../manifest-input.ts";
import { registerFollow } from "./gateway-follow.ts";

interface RenderFlags extends GatewayFlags {
  readonly file?: readonly string[];
  readonly installedAt?: string;
}

const ENVIRONMENT_HELP = `
From the environment only:
  FAIRLEAD_GATEWAY_KEYS  id:base64,...: every key that may have signed a token; the Worker has the same`;

export function registerGateway(program: Command): void {
  const gateway = program
    .command("gateway")
    .summary("configure the gateway of a cluster")
    .description("The gateway inside a cluster: HAProxy with a configuration that this writes.");
  addGatewayOptions(addCompilerOptions(addFileOption(gateway.command("render"))))
    .summary("write HAProxy's configuration")
    .description(
      "Writes haproxy.cfg, its maps and certificates for Debian's HAProxy 2.6 or later, and names each file. " +
        "Manifests are needed for what HAProxy passes on as TCP: hosts with ssl-passthrough, and TCP services.",
    )
    .addOption(
      new Option("--installed-at <folder>", "where HAProxy will find them (default: --out)")
        .argParser(absolutePath)
        .env("FAIRLEAD_GATEWAY_INSTALLED_AT"),
    )
    .addHelpText("after", ENVIRONMENT_HELP)
    .action(async (flags: RenderFlags) => {
      const { renderHaproxy } = await import("../../gateway/haproxy/render.ts");
      const { writeFiles } = await import("../../gateway/haproxy/write.ts");
      const settings: HaproxySettings = {
        ...(await readSettings(flags, process.env)),
        ...(await readTcpFromFiles(flags)),
        folder: flags.installedAt ?? absolutePath(resolve(flags.out)),
      };
      const files = usage(() => renderHaproxy(settings));
      await writeFiles(flags.out, files);
      for (const { name } of files) process.stdout.write(`${join(flags.out, name)}\n`);
    });
  registerFollow(gateway, ENVIRONMENT_HELP);
}

async function readTcpFromFiles(flags: RenderFlags): Promise<Partial<HaproxySettings>> {
  const needy = flagThatNeedsObjects(flags);
  if (needy === undefined) return {};
  if (flags.file === undefined)
    throw new UsageError(`${needy} needs -f PATH: the manifests that it is about.`);
  const { compile } = await import("../../control/compile/compile.ts");
  const read = await readCluster(flags.file);
  const options = compileOptions(flags);
  const { settings, diagnostics } = readTcpSettings(read.model, flags, (model) =>
    compile(model, { ...options, ...(flags.allowLoopback === true ? { allowLocalAddresses: true } : {}) }),
  );
  for (const diagnostic of [...read.diagnostics, ...diagnostics])
    if (diagnostic.severity !== "info") process.stderr.write(`${formatDiagnostic(diagnostic)}\n`);
  return settings;
}
