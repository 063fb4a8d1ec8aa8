/** What the commands that follow a cluster have in common: which API server, and what of it. */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { ApiAccess } from "../cluster/watch/api.ts";

export interface KubernetesFlags {
  readonly kubernetes?: true;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespaces?: readonly string[];
}

export function addKubernetesOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--kubernetes",
        "follow a cluster: in a Pod by its service account, else by the kubeconfig (--kubeconfig and --context imply it)",
      ).env("FAIRLEAD_KUBERNETES"),
    )
    .addOption(
      new Option("--kubeconfig <file>", "kubeconfig of the cluster to follow").env("FAIRLEAD_KUBECONFIG"),
    )
    .addOption(
      new Option("--context <name>", "context of the kubeconfig (default: its current one)").env(
        "FAIRLEAD_CONTEXT",
      ),
    )
    .addOption(
      new Option("--namespaces <names>", "follow only these namespaces, by commas (default: all)")
        .argParser(namespaceList)
        .env("FAIRLEAD_NAMESPACES"),
    );
}

/** Where to connect; `undefined`: no cluster shall be followed. */
export function apiAccess({ kubernetes, kubeconfig, context }: KubernetesFlags): ApiAccess | undefined {
  const [file, name] = [kubeconfig || undefined, context || undefined];
  if (kubernetes !== true && file === undefined && name === undefined) return undefined;
  return { kubeconfig: file, context: name };
}

function namespaceList(text: string): readonly string[] {
  const names = text.split(",").map((name) => name.trim());
  const wrong = names.find((name) => !/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name));
  if (wrong !== undefined)
    throw new InvalidArgumentError(`${JSON.stringify(wrong)} is no name of a namespace.`);
  return [...new Set(names)].sort();
}
