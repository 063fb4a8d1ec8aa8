/**
 * What the controller's ConfigMap decides, read once for each version of it.
 *
 * In: a model, which ConfigMap. Out: readers of annotations with its defaults, what holds for the whole edge, and what is
 * wrong with it. Not here: what annotations mean (`policies.ts`).
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { ClusterModel } from "../../cluster/model.ts";
import type { EdgeConfig } from "../../edge-config/config.ts";
import type { ControllerSettings } from "../annotations/group.ts";
import { type CompileOptions, DEFAULT_CONFIG_MAP } from "./options.ts";
import { edgePolicies } from "./policies.ts";
import { createReadingSource, type ReadingSource } from "./readings.ts";

export interface SettingsWork {
  readonly source: unknown;
  readonly readings: ReadingSource;
  readonly crossNamespace: boolean;
  readonly edge: Pick<EdgeConfig, "policies">;
  readonly diagnostics: readonly Diagnostic[];
}

/** The very same as `known` when the ConfigMap is. */
export function readSettings(
  model: ClusterModel,
  options: CompileOptions,
  known: SettingsWork | undefined,
): SettingsWork {
  const name = options.configMap ?? DEFAULT_CONFIG_MAP;
  const source = model.configMaps.get(name);
  if (known !== undefined && known.source === source) return known;
  const diagnostics: Diagnostic[] = [];
  if (source === undefined && options.configMap !== undefined) {
    diagnostics.push({
      severity: "warning",
      kind: "ConfigMap",
      object: name,
      message: "was named as the controller's ConfigMap, but does not exist; every setting has its default.",
    });
  }
  const settings: ControllerSettings = source === undefined ? { data: {} } : { name, data: source.data };
  const readings = createReadingSource(settings);
  const policies = edgePolicies(readings, name, diagnostics);
  return {
    source,
    readings,
    crossNamespace: settings.data["allow-cross-namespace-resources"]?.trim() === "true",
    edge: policies === undefined ? {} : { policies },
    diagnostics: [...readings.diagnostics, ...diagnostics],
  };
}
