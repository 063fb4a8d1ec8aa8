/** Manifests of `deploy/` as a cluster gets them: a Kustomize base's files, or a chart rendered by Helm's engine. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { goProgramPath } from "../../../setup/go-programs.mjs";
import type { Manifest } from "./api-server.ts";

export interface ChartRelease {
  /** Folder of the chart. */
  readonly chart: string;
  readonly release: string;
  readonly namespace: string;
}

/** Everything that a `kustomization.yaml` lists. */
export function kustomizeBase(kustomization: string): readonly Manifest[] {
  const { resources } = parse(readFileSync(kustomization, "utf8")) as {
    readonly resources: readonly string[];
  };
  return resources.flatMap((file) => documentsOf(readFileSync(join(dirname(kustomization), file), "utf8")));
}

/** Throws with Helm's words where the chart refuses the values. */
export function renderChart(
  { chart, release, namespace }: ChartRelease,
  values: unknown,
): readonly Manifest[] {
  const text = execFileSync(goProgramPath("helm-template"), [chart, release, namespace], {
    input: JSON.stringify(values),
    encoding: "utf8",
    stdio: ["pipe", "pipe", "pipe"],
  });
  return documentsOf(text);
}

function documentsOf(text: string): readonly Manifest[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS() as Manifest | null)
    .filter((manifest): manifest is Manifest => manifest !== null);
}
