/**
 * `fairlead compile -f PATH... [-o DIR]`: the EdgeConfig of some manifests, as JSON on stdout.
 *
 * The same input gives the same bytes. Diagnostics go to stderr, one line each; exit code 1 if one is an error.
 * With `-o`, the shards and the pointer are written as files too, as they would stand in KV.
 */

import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Command } from "commander";
import { formatDiagnostic } from "../../cluster/diagnostic.ts";
import { EDGE_CONFIG_VERSION, type EdgeConfig } from "../../edge-config/config.ts";
import { EXIT_FAILURE } from "../failure.ts";
import {
  addCompilerOptions,
  addFileOption,
  compileOptions,
  type FileFlags,
  readCluster,
} from "../manifest-input.ts";

interface Flags extends FileFlags {
  readonly output?: string;
}

export function registerCompile(program: Command): void {
  const command = program
    .command("compile")
    .description("Print the edge configuration of manifests as JSON, and what is wrong with them on stderr.");
  addCompilerOptions(addFileOption(command))
    .argument("[paths...]", "more manifests")
    .option("-o, --output <dir>", "also write the shards and the pointer as files into this folder")
    .action(runCompile);
}

async function runCompile(morePaths: readonly string[], flags: Flags): Promise<void> {
  const options = compileOptions(flags);
  const { model, diagnostics: ofReading } = await readCluster([...(flags.file ?? []), ...morePaths]);
  const { compile } = await import("../../control/compile/compile.ts");
  const { sortDiagnostics } = await import("../../control/compile/told.ts");
  const { printConfig } = await import("../../control/compile/print.ts");
  const { config, diagnostics } = compile(model, options);
  const all = sortDiagnostics([...ofReading, ...diagnostics]);
  if (flags.output !== undefined) await writeShards(config, flags.output);
  process.stderr.write(all.map((diagnostic) => `${formatDiagnostic(diagnostic)}\n`).join(""));
  process.stdout.write(printConfig(config));
  if (all.some(({ severity }) => severity === "error")) process.exitCode = EXIT_FAILURE;
}

/** Named as the keys in KV. The pointer has a fixed time, so that the same input gives the same bytes here too. */
async function writeShards(config: EdgeConfig, folder: string): Promise<void> {
  const { deriveConfigKeys } = await import("../../edge-config/config-keys.ts");
  const { encodePointer, POINTER_KEY } = await import("../../edge-config/pointer.ts");
  const { cutShards } = await import("../../edge-config/shards.ts");
  const secret = process.env.FAIRLEAD_CONFIG_KEY;
  const keys = secret === undefined || secret === "" ? undefined : await deriveConfigKeys(secret);
  const { directory, shards } = await cutShards(config, { keys });
  const pointer = await encodePointer(
    {
      ...directory,
      version: EDGE_CONFIG_VERSION,
      generation: 1,
      epoch: 0,
      createdAt: new Date(0).toISOString(),
    },
    keys,
  );
  for (const [name, text] of [...shards, [POINTER_KEY, pointer] as const]) {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
}
