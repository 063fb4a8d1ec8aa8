/** Where the commands of the agent learn of the cluster: manifests with `-f`, else its API server. */

import { type Command, Option } from "commander";
import type { SourceSettings } from "../agent/sources/open.ts";
import { UsageError } from "./failure.ts";
import { addFileOption } from "./manifest-input.ts";

export interface SourceFlags {
  readonly file?: readonly string[];
  readonly kubeconfig?: string;
  readonly context?: string;
}

export function addSourceOptions(command: Command): Command {
  return addFileOption(command)
    .addOption(
      new Option(
        "--kubeconfig <file>",
        "kubeconfig of the cluster (default: the Pod's service account, else as kubectl does)",
      ).env("FAIRLEAD_KUBECONFIG"),
    )
    .addOption(
      new Option("--context <name>", "context of the kubeconfig (default: its current one)").env(
        "FAIRLEAD_CONTEXT",
      ),
    );
}

export function sourceSettings(flags: SourceFlags, morePaths: readonly string[]): SourceSettings {
  const paths = [...(flags.file ?? []), ...morePaths];
  if (paths.includes("-"))
    throw new UsageError("-f - is not for an agent: it follows what it reads, so it needs files or folders.");
  if (paths.length > 0) return { kind: "files", paths };
  // A variable that is set to nothing is not set.
  return {
    kind: "kubernetes",
    access: { kubeconfig: flags.kubeconfig || undefined, context: flags.context || undefined },
  };
}
