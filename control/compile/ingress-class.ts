/**
 * Which Ingresses count.
 *
 * Without `--ingress-class` all do. With it, `spec.ingressClassName` is decisive where it stands: it must be
 * that class. The old annotation `kubernetes.io/ingress.class` counts only where the field is absent, and an
 * Ingress with neither belongs to the class that is marked as the cluster's default (reference §2.1).
 */

import type { ClusterModel, Ingress } from "../../cluster/model.ts";

/** Annotation of the days before IngressClass. */
export const CLASS_ANNOTATION = "kubernetes.io/ingress.class";

/** `undefined`: it counts. Otherwise why it does not, as a sentence. */
export function whyNotOurs(
  ingress: Ingress,
  classes: ClusterModel["ingressClasses"],
  wanted: string | undefined,
): string | undefined {
  if (wanted === undefined) return undefined;
  const field = ingress.ingressClassName;
  const annotation = ingress.meta.annotations[CLASS_ANNOTATION];
  if (field !== undefined) {
    return field === wanted
      ? undefined
      : `its ingressClassName is "${field}", and only "${wanted}" is served here.`;
  }
  if (annotation !== undefined && annotation !== "") {
    return annotation === wanted
      ? undefined
      : `its annotation ${CLASS_ANNOTATION} is "${annotation}", and only "${wanted}" is served here.`;
  }
  if (classes.get(wanted)?.isDefault) return undefined;
  return `it names no class, and only "${wanted}", which is not the cluster's default class, is served here.`;
}
