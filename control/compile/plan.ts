/**
 * What one Ingress asks for, host by host, before anyone else is heard.
 *
 * In: an Ingress. Out: its share in each host, the backends that it names, and what is wrong with it. Depends
 * on nothing but the Ingress, so it is made once for each version of it.
 * Hosts and paths are right: `cluster/` has left out what is not.
 * Not here: who wins (`hosts.ts`), what annotations mean (`policies.ts`), whether a Service exists (`backends.ts`).
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { Ingress, IngressBackend } from "../../cluster/model.ts";
import { ANY_HOST, type BackendName, type ObjectName } from "../../edge-config/config.ts";
import { quote } from "../annotations/readers.ts";
import { nameOf } from "./order.ts";

export interface IngressPlan {
  readonly ingress: Ingress;
  readonly name: ObjectName;
  /** By key of `EdgeConfig.hosts`. */
  readonly hosts: ReadonlyMap<string, HostShare>;
  /** Serves what no rule of a host of this Ingress takes; every other host too when the Ingress has no rules. */
  readonly defaultBackend?: BackendUse;
  /** Every backend that the rules name, in their order. */
  readonly uses: readonly BackendUse[];
  readonly diagnostics: readonly Diagnostic[];
}

/** What one Ingress asks of one host. */
export interface HostShare {
  readonly plan: IngressPlan;
  readonly host: string;
  readonly paths: readonly PathShare[];
}

export interface PathShare {
  readonly path: string;
  readonly pathType: "Exact" | "Prefix";
  readonly use: BackendUse;
  /** `spec.rules[0].http.paths[1]`. */
  readonly field: string;
}

/** One mention of a backend. */
export interface BackendUse {
  readonly name: BackendName;
  readonly namespace: string;
  readonly service: string;
  readonly port: string;
  readonly field: string;
}

/** What makes a backend: a port of a Service, as an Ingress names it. */
export type BackendPlace = Pick<BackendUse, "namespace" | "service" | "port">;

/** `/` and `:` stand in no name of Kubernetes, so two backends never share a name, as `a-b` + `c` and `a` + `b-c` would. */
export function backendName(namespace: string, service: string, port: string): BackendName {
  return `${namespace}/${service}:${port}`;
}

export function planIngress(ingress: Ingress): IngressPlan {
  const name = nameOf(ingress);
  const diagnostics: Diagnostic[] = [];
  const uses: BackendUse[] = [];
  const shares = new Map<string, PathShare[]>();

  const problem = (severity: Diagnostic["severity"], field: string, message: string): void => {
    diagnostics.push({ severity, kind: "Ingress", object: name, field, message });
  };
  const use = (backend: IngressBackend, field: string): BackendUse | undefined => {
    if (backend.kind === "Resource") {
      problem(
        "error",
        `${field}.resource`,
        `names the ${backend.resourceKind} ${quote(backend.name)} as its backend, but only a Service can answer requests here; requests get 404.`,
      );
      return undefined;
    }
    const port = "number" in backend.port ? String(backend.port.number) : backend.port.name;
    const { namespace } = ingress.meta;
    const made = {
      name: backendName(namespace, backend.name, port),
      namespace,
      service: backend.name,
      port,
      field,
    };
    uses.push(made);
    return made;
  };

  const defaultBackend =
    ingress.defaultBackend === undefined ? undefined : use(ingress.defaultBackend, "spec.defaultBackend");

  for (const [index, rule] of ingress.rules.entries()) {
    const field = `spec.rules[${index}]`;
    const host = rule.host === "" ? ANY_HOST : rule.host;
    let paths = shares.get(host);
    if (paths === undefined) {
      paths = [];
      shares.set(host, paths);
    }
    for (const [pathIndex, { path, pathType, backend }] of (rule.paths ?? []).entries()) {
      const pathField = `${field}.http.paths[${pathIndex}]`;
      const used = use(backend, `${pathField}.backend`);
      if (used === undefined) continue;
      paths.push({
        path,
        pathType: pathType === "Exact" ? "Exact" : "Prefix",
        use: used,
        field: pathField,
      });
    }
  }
  const hosts = new Map<string, HostShare>();
  const plan: IngressPlan = {
    ingress,
    name,
    hosts,
    ...(defaultBackend === undefined ? {} : { defaultBackend }),
    uses,
    diagnostics,
  };
  for (const [host, paths] of shares) hosts.set(host, { plan, host, paths });
  return plan;
}
