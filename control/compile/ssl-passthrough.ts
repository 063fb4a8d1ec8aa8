/**
 * Whether TLS of a host is left to its pods (`ssl-passthrough`), and to which of them.
 *
 * In: the Ingresses of a host, the oldest first, and its paths. Out: the backend that gets its TLS connections. As in
 * ingress-nginx that is the one of the path `/`, since a connection has no path; a host without one keeps its TLS at the
 * edge, and the owner is told. Not here: the connections themselves (`gateway/`).
 */

import { ANY_HOST } from "../../edge-config/config.ts";
import { ANNOTATION_PREFIX } from "../annotations/group.ts";
import { sslPassthrough } from "../features/structure.ts";
import type { BackendUse, IngressPlan } from "./plan.ts";
import type { Workshop } from "./policies.ts";

export function findPassthrough(
  host: string,
  plans: readonly IngressPlan[],
  claims: readonly {
    readonly path: string;
    readonly pathType: "Exact" | "Prefix";
    readonly use: BackendUse | undefined;
  }[],
  { readings, diagnostics }: Pick<Workshop, "readings" | "diagnostics">,
): BackendUse | undefined {
  const asking = plans.find((plan) => {
    const own = readings.of(plan);
    return own.touched.has(sslPassthrough) && own.of(sslPassthrough).annotations["ssl-passthrough"];
  });
  if (asking === undefined) return undefined;
  const use =
    host === ANY_HOST
      ? undefined
      : claims
          .filter(({ path }) => path === "/")
          .sort((a, b) => (a.pathType < b.pathType ? 1 : -1)) // Prefix before Exact.
          .find((claim) => claim.use !== undefined)?.use;
  if (use === undefined) {
    diagnostics.push({
      severity: "warning",
      kind: "Ingress",
      object: asking.name,
      field: `${ANNOTATION_PREFIX}ssl-passthrough`,
      message:
        host === ANY_HOST
          ? "is set for a rule without a host, but connections are told apart by the host's name; TLS ends at the edge."
          : `is set, but the host "${host}" has no path / with a backend to pass connections to; TLS ends at the edge.`,
    });
  }
  return use;
}
