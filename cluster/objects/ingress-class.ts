/** IngressClass of networking.k8s.io. */

import type { IngressClass, ObjectMeta } from "../model.ts";
import type { FieldReader } from "./field-reader.ts";

const DEFAULT_CLASS_ANNOTATION = "ingressclass.kubernetes.io/is-default-class";
const KNOWN = new Set(["apiVersion", "kind", "metadata", "spec"]);
const KNOWN_SPEC = new Set(["controller", "parameters"]);

export function readIngressClass(root: FieldReader, meta: ObjectMeta): IngressClass | undefined {
  root.knowsOnly(KNOWN);
  const spec = root.map("spec");
  spec?.knowsOnly(KNOWN_SPEC);
  const controller = spec?.text("controller") ?? "";
  if (root.failed) return undefined;
  return {
    kind: "IngressClass",
    meta,
    controller,
    isDefault: meta.annotations[DEFAULT_CLASS_ANNOTATION] === "true",
  };
}
