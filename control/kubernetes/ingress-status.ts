/**
 * Tells each Ingress where it is reached: `.status.loadBalancer.ingress`.
 *
 * In: the model that was published, and the status of each Ingress as it stands. Out: a patch for every one that says
 * something else. An Ingress that is served here no longer loses what we had written, and nothing else.
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

/** The patches that are due. `statusOf`: see `KubernetesSource.ingressStatus`. */
export function statusPatches(
  model: ClusterModel,
  ingressClass: string | undefined,
  addresses: readonly string[],
  served: (ingress: ObjectName) => boolean,
  statusOf: (ingress: ObjectName) => string | undefined,
): readonly StatusPatch[] {
  const wanted = loadBalancerIngress(addresses);
  const patches: StatusPatch[] = [];
  for (const [name, ingress] of model.ingresses) {
    const status = statusOf(name);
    if (status === undefined) continue; // It is gone by now.
    const says = sameAddresses(status, wanted);
    const isServed = isOurs(ingress, model, ingressClass) && served(name);
    if (isServed && !says) patches.push({ name, ingress: wanted });
    else if (!isServed && says) patches.push({ name, ingress: [] });
  }
  return patches;
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

function isOurs(ingress: Ingress, model: ClusterModel, ingressClass: string | undefined): boolean {
  return whyNotOurs(ingress, model.ingressClasses, ingressClass) === undefined;
}

function sameAddresses(status: string, wanted: readonly Readonly<Record<string, string>>[]): boolean {
  const entries = JSON.parse(status) as readonly { readonly hostname?: string; readonly ip?: string }[];
  const text = (list: readonly { readonly hostname?: string; readonly ip?: string }[]): string =>
    list.map(({ hostname, ip }) => `${hostname ?? ""} ${ip ?? ""}`).join("\n");
  return text(entries) === text(wanted);
}
