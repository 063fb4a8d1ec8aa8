/**
 * What the commands that work on files have in common: `-f PATH...` and the options of the compiler.
 *
 * In: options as commander gives them. Out: a ClusterModel with the diagnostics of reading it, and CompileOptions.
 */

import { text as readAll } from "node:stream/consumers";
import { type Command, InvalidArgumentError } from "commander";
import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { ClusterModel, ObjectName } from "../cluster/model.ts";
import type { CompileOptions } from "../control/compile/options.ts";
import { UsageError } from "./failure.ts";

export interface CompilerFlags {
  readonly ingressClass?: string;
  readonly configmap?: string;
  readonly compat: string;
  readonly defaultBackendService?: string;
  readonly clusterDomain?: string;
  readonly allowLocalAddresses?: true;
}

export interface FileFlags extends CompilerFlags {
  readonly file?: readonly string[];
}

/** `-f a -f b`, and `-f a b` as well: what follows arrives as operands. A greedy option would eat the URL of `explain`. */
export function addFileOption(command: Command): Command {
  return command.option(
    "-f, --file <path>",
    "manifests: a file, a folder (.yaml, .yml, .json) or - for standard input; may be repeated",
    (path: string, before: readonly string[] = []) => [...before, path],
  );
}

export function addCompilerOptions(command: Command): Command {
  return command
    .option("--ingress-class <name>", "only Ingresses of this class count (default: all)")
    .option(
      "--configmap <namespace/name>",
      "the controller's ConfigMap (default: ingress-nginx/ingress-nginx-controller)",
    )
    .option(
      "--compat <mode>",
      "where nginx and the Kubernetes specification disagree: kubernetes or nginx",
      "kubernetes",
    )
    .option("--default-backend-service <namespace/name>", "the Service that answers what no Ingress answers")
    .option("--cluster-domain <domain>", "the DNS domain of the cluster (default: cluster.local)")
    .option(
      "--allow-local-addresses",
      "loopback, link-local and metadata addresses may be endpoints, as in `fairlead dev`",
    );
}

/** Throws `UsageError` for values that no option takes. */
export function compileOptions(flags: CompilerFlags): CompileOptions {
  const { ingressClass, clusterDomain, allowLocalAddresses } = flags;
  const configMap = objectName("--configmap", flags.configmap);
  const defaultBackend = objectName("--default-backend-service", flags.defaultBackendService);
  if (flags.compat !== "kubernetes" && flags.compat !== "nginx") {
    throw new UsageError(`--compat takes kubernetes or nginx, not ${JSON.stringify(flags.compat)}.`);
  }
  return {
    compat: flags.compat,
    ...(ingressClass === undefined ? {} : { ingressClass }),
    ...(configMap === undefined ? {} : { configMap }),
    ...(defaultBackend === undefined ? {} : { defaultBackend }),
    ...(clusterDomain === undefined ? {} : { clusterDomain }),
    ...(allowLocalAddresses === undefined ? {} : { allowLocalAddresses }),
  };
}

function objectName(option: string, text: string | undefined): ObjectName | undefined {
  if (text === undefined) return undefined;
  const [namespace, name, ...rest] = text.split("/");
  if (!namespace || !name || rest.length > 0) {
    throw new UsageError(`${option} takes namespace/name, not ${JSON.stringify(text)}.`);
  }
  return `${namespace}/${name}`;
}

/** Of `--tcp-services` and `--udp-services`. */
export function configMapName(text: string): ObjectName {
  const [namespace, name, ...rest] = text.split("/");
  if (!namespace || !name || rest.length > 0) throw new InvalidArgumentError("Expected is namespace/name.");
  return `${namespace}/${name}`;
}

/** Reads everything that `-f` names. What cannot be read is a diagnostic; the rest is there. */
export async function readCluster(
  paths: readonly string[],
): Promise<{ readonly model: ClusterModel; readonly diagnostics: readonly Diagnostic[] }> {
  if (paths.length === 0) throw new UsageError("-f PATH is missing: it names the manifests to read.");
  // Loaded when a command runs, so that `fairlead --version` stays quick.
  const { readManifests, readManifestText } = await import("../cluster/files.ts");
  const { buildClusterModel } = await import("../cluster/build.ts");
  const files = paths.filter((path) => path !== "-");
  const read = files.length === 0 ? { objects: [], diagnostics: [] } : await readManifests(files);
  const piped = paths.includes("-")
    ? readManifestText(await readAll(process.stdin), "standard input")
    : { objects: [], diagnostics: [] };
  const built = buildClusterModel([...read.objects, ...piped.objects]);
  return {
    model: built.model,
    diagnostics: [...read.diagnostics, ...piped.diagnostics, ...built.diagnostics],
  };
}
