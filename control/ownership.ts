/**
 * Who may use which host name.
 *
 * In: an operator's rules, or none. Out: two questions answered: may this cluster, may this namespace of it,
 * use this host? Without rules, everybody may, and the oldest Ingress decides where two claim one host.
 * Not here: which of several claims wins (`merge.ts`).
 */

import { z } from "zod";
import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { ClusterModel, Ingress, ObjectName } from "../cluster/model.ts";

const rule = z.strictObject({
  /** `shop.example.com`, `*.example.com` (every name below, at any depth) or `*`. */
  host: z.string().min(1),
  cluster: z.string().min(1).optional(),
  namespace: z.string().min(1).optional(),
});

const document = z.strictObject({
  /** The first rule whose `host` fits decides; who is not named in it may not use the host. */
  hosts: z.array(rule).default([]),
  /**
   * Whether namespaces of one cluster may share a host, as ingress-nginx lets them. With `namespace`, a host
   * belongs to the namespace of the oldest Ingress that names it.
   */
  sharing: z.enum(["cluster", "namespace"]).default("cluster"),
});

export interface OwnershipRules {
  /** Nothing to check at all. */
  readonly allowsEverything: boolean;
  readonly allowsCluster: (host: string, cluster: string) => boolean;
  /** The model without the hosts that its namespaces may not use; the very same model if nothing is taken. */
  readonly restrict: (
    cluster: string,
    model: ClusterModel,
  ) => { readonly model: ClusterModel; readonly diagnostics: readonly Diagnostic[] };
}

/** Throws a `RangeError` with a sentence when the document is not what it should be. */
export function readOwnershipRules(value: unknown): OwnershipRules {
  const parsed = document.safeParse(value ?? {});
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new RangeError(
      `The host-ownership policy is wrong at ${issue?.path.join(".") || "its top"}: ${issue?.message}.`,
    );
  }
  const { hosts, sharing } = parsed.data;
  const find = (host: string): z.infer<typeof rule> | undefined =>
    hosts.find((one) => fits(one.host.toLowerCase(), host));

  return {
    allowsEverything: hosts.length === 0 && sharing === "cluster",
    allowsCluster: (host, cluster) => {
      const found = find(host);
      return found?.cluster === undefined || found.cluster === cluster;
    },
    restrict: (cluster, model) => {
      if (hosts.length === 0 && sharing === "cluster") return { model, diagnostics: [] };
      const owners = sharing === "namespace" ? oldestNamespaces(model) : undefined;
      const diagnostics: Diagnostic[] = [];
      const ingresses = new Map<ObjectName, Ingress>();
      for (const [name, ingress] of model.ingresses) {
        ingresses.set(
          name,
          withoutHosts(
            ingress,
            (host) => {
              const found = find(host);
              const { namespace } = ingress.meta;
              const owner = owners?.get(host);
              if (found?.cluster !== undefined && found.cluster !== cluster)
                return `the rule for ${found.host} gives it to the cluster ${found.cluster}`;
              if (found?.namespace !== undefined && found.namespace !== namespace)
                return `the rule for ${found.host} gives it to the namespace ${found.namespace}`;
              if (found?.namespace === undefined && owner !== undefined && owner !== namespace)
                return `the namespace ${owner} has had it for longer`;
              return undefined;
            },
            diagnostics,
          ),
        );
      }
      return diagnostics.length === 0
        ? { model, diagnostics }
        : { model: { ...model, ingresses }, diagnostics };
    },
  };
}

function fits(pattern: string, host: string): boolean {
  if (pattern === "*" || pattern === host) return true;
  return pattern.startsWith("*.") && host.endsWith(pattern.slice(1));
}

/** Host as an EdgeConfig spells it: rules without one are `*`. */
function hostsOf(ingress: Ingress): readonly string[] {
  const hosts = ingress.rules.map(({ host }) => (host === "" ? "*" : host));
  return ingress.defaultBackend === undefined ? hosts : [...hosts, "*"];
}

function oldestNamespaces(model: ClusterModel): ReadonlyMap<string, string> {
  const owners = new Map<string, { readonly namespace: string; readonly age: string }>();
  for (const ingress of model.ingresses.values()) {
    const { namespace, creationTimestamp } = ingress.meta;
    const age = `${creationTimestamp ?? "~"} ${namespace}`;
    for (const host of hostsOf(ingress)) {
      const owner = owners.get(host);
      if (owner === undefined || age < owner.age) owners.set(host, { namespace, age });
    }
  }
  return new Map([...owners].map(([host, { namespace }]) => [host, namespace]));
}

/** Taken-off hosts of an Ingress are remembered, so that an unchanged Ingress stays the same object. */
const reduced = new WeakMap<Ingress, { readonly taken: string; readonly ingress: Ingress }>();

function withoutHosts(
  ingress: Ingress,
  whyNot: (host: string) => string | undefined,
  diagnostics: Diagnostic[],
): Ingress {
  const reasons = new Map<string, string>();
  for (const host of hostsOf(ingress)) {
    const reason = whyNot(host);
    if (reason !== undefined) reasons.set(host, reason);
  }
  if (reasons.size === 0) return ingress;
  for (const [host, reason] of reasons) {
    diagnostics.push({
      severity: "error",
      kind: "Ingress",
      object: `${ingress.meta.namespace}/${ingress.meta.name}`,
      field: host === "*" ? "spec.rules" : "spec.rules.host",
      message: `The host ${JSON.stringify(host)} is not served for the namespace ${ingress.meta.namespace}: ${reason}.`,
    });
  }
  const taken = JSON.stringify([...reasons.keys()]);
  const known = reduced.get(ingress);
  if (known?.taken === taken) return known.ingress;
  const { defaultBackend, rules, ...rest } = ingress;
  const result: Ingress = {
    ...rest,
    rules: rules.filter(({ host }) => !reasons.has(host === "" ? "*" : host)),
    ...(defaultBackend === undefined || reasons.has("*") ? {} : { defaultBackend }),
  };
  reduced.set(ingress, { taken, ingress: result });
  return result;
}
