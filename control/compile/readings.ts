/**
 * The annotations of every Ingress, read: once for each version of an Ingress and of the controller's ConfigMap.
 *
 * In: an Ingress. Out: the reading of each group that it touches, and what is wrong with the texts.
 * A group that an Ingress does not touch costs it nothing: groups are found by the annotations that are there.
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import {
  annotationKeys,
  type ControllerSettings,
  createGroupReader,
  type Group,
  type GroupReading,
  type Problem,
} from "../annotations/group.ts";
import { judgeAnnotation, judgeSetting } from "../annotations/registry.ts";
import { groups } from "../features/index.ts";
import type { IngressPlan } from "./plan.ts";

/** What the annotations of one Ingress say. */
export interface Readings {
  readonly of: <G extends Group>(group: G) => GroupReading<G>;
  /** Groups with a written annotation. */
  readonly touched: ReadonlySet<Group>;
  readonly diagnostics: readonly Diagnostic[];
}

/** All readings under one ConfigMap. */
export interface ReadingSource {
  readonly of: (plan: IngressPlan | undefined) => Readings;
  /** What is wrong in the ConfigMap itself. */
  readonly diagnostics: readonly Diagnostic[];
}

/** The groups that an annotation's key belongs to: nearly always one. */
const groupsByKey: ReadonlyMap<string, readonly Group[]> = (() => {
  const found = new Map<string, Group[]>();
  for (const group of groups) {
    for (const [name, reader] of Object.entries(group.annotations)) {
      for (const key of annotationKeys(name, reader)) {
        const known = found.get(key);
        if (known === undefined) found.set(key, [group]);
        else if (!known.includes(group)) known.push(group);
      }
    }
  }
  return found;
})();

export function createReadingSource(settings: ControllerSettings): ReadingSource {
  const reader = createGroupReader(settings);
  const known = new WeakMap<IngressPlan, Readings>();
  const nothing: Readings = { of: (group) => reader.defaults(group), touched: new Set(), diagnostics: [] };

  const readPlan = (plan: IngressPlan): Readings => {
    const { annotations } = plan.ingress.meta;
    const readings = new Map<Group, GroupReading<Group>>();
    const diagnostics: Diagnostic[] = [];
    for (const key of Object.keys(annotations)) {
      const found = groupsByKey.get(key);
      if (found === undefined) diagnostics.push(...judgeAnnotation(plan.name, key));
      for (const group of found ?? []) {
        if (readings.has(group)) continue;
        const reading = reader.read(group, annotations);
        readings.set(group, reading);
        for (const problem of reading.problems) diagnostics.push(annotationDiagnostic(plan, problem));
      }
    }
    if (readings.size === 0) return diagnostics.length === 0 ? nothing : { ...nothing, diagnostics };
    return {
      of: <G extends Group>(group: G) =>
        (readings.get(group) as GroupReading<G> | undefined) ?? reader.defaults(group),
      touched: new Set(readings.keys()),
      diagnostics,
    };
  };

  return {
    of(plan) {
      if (plan === undefined) return nothing;
      let readings = known.get(plan);
      if (readings === undefined) {
        readings = readPlan(plan);
        known.set(plan, readings);
      }
      return readings;
    },
    diagnostics:
      settings.name === undefined
        ? []
        : [
            ...settingDiagnostics(settings.name, groups.flatMap(reader.settingProblems)),
            ...Object.keys(settings.data).flatMap((key) => judgeSetting(settings.name ?? "", key)),
          ],
  };
}

export function annotationDiagnostic(plan: IngressPlan, { severity, key, message }: Problem): Diagnostic {
  return { severity, kind: "Ingress", object: plan.name, field: key, message };
}

function settingDiagnostics(object: string, problems: readonly Problem[]): readonly Diagnostic[] {
  return problems.map(({ severity, key, message }) => ({
    severity,
    kind: "ConfigMap",
    object,
    field: `data.${key}`,
    message,
  }));
}
