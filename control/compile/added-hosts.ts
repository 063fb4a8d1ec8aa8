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
import type { AddedHost } from "../features/feature.ts";
import { serverAlias } from "../features/structure.ts";
import type { HostResult } from "./hosts.ts";
import type { IngressPlan } from "./plan.ts";
import type { ReadingSource } from "./readings.ts";

export interface AddedHosts {
  /** None of them has a rule of its own. */
  readonly hosts: ReadonlyMap<string, HostConfig>;
  readonly diagnostics: readonly Diagnostic[];
}

/**
 * `aliasing`: the Ingresses that have the annotation, the oldest first. `works`: all hosts of rules. `adding`: those of
 * them that bring others along.
 */
export function addHosts(
  aliasing: readonly IngressPlan[],
  works: ReadonlyMap<string, { readonly result: HostResult }>,
  adding: ReadonlyMap<string, HostResult>,
  readings: ReadingSource,
): AddedHosts {
  const hosts = new Map<string, HostConfig>();
  const diagnostics: Diagnostic[] = [];
  const owners = new Map<string, IngressPlan>();
  /** Hosts that have their aliases: the oldest Ingress that names some decides for the host. */
  const decided = new Map<string, IngressPlan>();

  for (const plan of aliasing) {
    const aliases = readings.of(plan).of(serverAlias).annotations["server-alias"];
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
  for (const { added } of adding.values())
    for (const one of added)
      if (!works.has(one.host) && !hosts.has(one.host)) hosts.set(one.host, configOf(one));
  return { hosts, diagnostics };
}

/** The very same for the same one: what has not changed is not written again. */
const configs = new WeakMap<AddedHost, HostConfig>();

function configOf(added: AddedHost): HostConfig {
  let config = configs.get(added);
  if (config === undefined) {
    config = { matching: "kubernetes", routes: [], policies: added.policies };
    configs.set(added, config);
  }
  return config;
}
