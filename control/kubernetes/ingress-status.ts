/**
 * Tells each Ingress where it is reached: `.status.loadBalancer.ingress`.
 *
 * In: an Ingress of the model that was published, and its status as it stands. Out: a patch where that says something else. An Ingress that is served here no longer loses what we had written, and nothing else.
 */

import { isIP } from "node:net";
import type { ClusterModel, Ingress, ObjectName } from "../../cluster/model.ts";
import type { KubernetesApi } from "../../cluster/watch/api.ts";
import { objectPath } from "../../cluster/watch/kinds.ts";
import { whyNotOurs } from "../compile/ingress-class.ts";

/** What an Ingress shall say, by the addresses of the edge: names, or IP addresses. */
export function loadBalancerIngress(
  addresses: readonly string[],
): readonly Readonly<Record<string, string>>[] {
  return addresses.map((address) => (isIP(address) === 0 ? { hostname: address } : { ip: address }));
}

export interface StatusPatch {
  readonly name: ObjectName;
  readonly ingress: readonly Readonly<Record<string, string>>[];
}

export interface StatusRules {
  readonly classes: ClusterModel["ingressClasses"];
  readonly ingressClass: string | undefined;
  /** `loadBalancerIngress` */
  readonly wanted: readonly Readonly<Record<string, string>>[];
}

/**
 * The patch that is due; `undefined`: none is. `isServed`: whether any route of the edge is this Ingress'. `status`: see
 * `KubernetesSource.ingressStatus`.
 */
export function statusPatch(
  ingress: Ingress,
  { classes, ingressClass, wanted }: StatusRules,
  isServed: boolean,
  status: string | undefined,
): StatusPatch | undefined {
  if (status === undefined) return undefined; // It is gone by now.
  const says = sameAddresses(status, wanted);
  const shall = isServed && whyNotOurs(ingress, classes, ingressClass) === undefined;
  if (shall === says) return undefined;
  return { name: `${ingress.meta.namespace}/${ingress.meta.name}`, ingress: shall ? wanted : [] };
}

export async function writeStatus(api: KubernetesApi, { name, ingress }: StatusPatch): Promise<void> {
  const [namespace = "", ownName = ""] = name.split("/");
  await api.request({
    method: "PATCH",
    path: `${objectPath("Ingress", namespace, ownName)}/status`,
    contentType: "application/merge-patch+json",
    query: { fieldManager: "fairlead" },
    body: { status: { loadBalancer: { ingress } } },
  });
}

function sameAddresses(status: string, wanted: readonly Readonly<Record<string, string>>[]): boolean {
  const entries = JSON.parse(status) as readonly { readonly hostname?: string; readonly ip?: string }[];
  const text = (list: readonly { readonly hostname?: string; readonly ip?: string }[]): string =>
    list.map(({ hostname, ip }) => `${hostname ?? ""} ${ip ?? ""}`).join("\n");
  return text(entries) === text(wanted);
}
