/**
 * Hosts that no rule names: aliases, and those that a feature adds (the counterpart of a www redirect).
 *
 * A host of some Ingress' own rule always wins. Of several Ingresses that want the same further name the oldest
 * gets it.
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import { ANY_HOST, type HostConfig } from "../../edge-config/config.ts";
import { ANNOTATION_PREFIX } from "../annotations/group.ts";
import { quote } from "../annotations/readers.ts";
import { serverAlias } from "../features/structure.ts";
import type { HostResult } from "./hosts.ts";
import type { IngressPlan } from "./plan.ts";
import type { ReadingSource } from "./readings.ts";

interface Outcome {
  readonly hosts: ReadonlyMap<string, HostConfig>;
  readonly diagnostics: readonly Diagnostic[];
}

export function addHosts(
  plans: readonly IngressPlan[],
  works: ReadonlyMap<string, { readonly result: HostResult }>,
  readings: ReadingSource,
): Outcome {
  const hosts = new Map<string, HostConfig>();
  for (const [host, { result }] of works) hosts.set(host, result.config);
  const diagnostics: Diagnostic[] = [];
  const owners = new Map<string, IngressPlan>();
  /** Hosts that have their aliases: the oldest Ingress that names some decides for the host. */
  const decided = new Map<string, IngressPlan>();

  for (const plan of plans) {
    const own = readings.of(plan);
    if (!own.touched.has(serverAlias)) continue;
    const aliases = own.of(serverAlias).annotations["server-alias"];
    if (aliases === undefined) continue;
    const tell = (severity: Diagnostic["severity"], message: string): void => {
      diagnostics.push({
        severity,
        kind: "Ingress",
        object: plan.name,
        field: `${ANNOTATION_PREFIX}server-alias`,
        message,
      });
    };
    for (const host of plan.hosts.keys()) {
      const config = works.get(host)?.result.config;
      if (config === undefined) continue;
      if (host === ANY_HOST) {
        tell(
          "warning",
          "names more hosts for a rule without a host, which has every host already; it changes nothing.",
        );
        continue;
      }
      const decider = decided.get(host);
      if (decider !== undefined && decider !== plan) {
        tell(
          "warning",
          `is decided for the host ${quote(host)} by the older Ingress ${decider.name}; it changes nothing.`,
        );
        continue;
      }
      decided.set(host, plan);
      for (const written of aliases) {
        const alias = written.toLowerCase();
        const owner = owners.get(alias);
        if (works.has(alias)) {
          if (alias !== host)
            tell("warning", `names ${quote(alias)}, but an Ingress has that host itself; it keeps it.`);
        } else if (owner !== undefined) {
          if (owner !== plan || hosts.get(alias) !== config) {
            tell(
              "error",
              `names ${quote(alias)}, which is already another host's alias (Ingress ${owner.name}); it stays there.`,
            );
          }
        } else {
          owners.set(alias, plan);
          hosts.set(alias, config);
        }
      }
    }
  }
  for (const { result } of works.values()) {
    for (const { host, policies } of result.added) {
      if (!hosts.has(host)) hosts.set(host, { matching: "kubernetes", routes: [], policies });
    }
  }
  return { hosts, diagnostics };
}
