/** ConfigMap of v1. `binaryData` is not read: no setting of ours is binary. */

import type { ConfigMap, ObjectMeta } from "../model.ts";
import type { FieldReader } from "./field-reader.ts";

const KNOWN = new Set(["apiVersion", "kind", "metadata", "data", "binaryData", "immutable"]);

export function readConfigMap(root: FieldReader, meta: ObjectMeta): ConfigMap | undefined {
  root.knowsOnly(KNOWN);
  const data = root.textMap("data");
  return root.failed ? undefined : { kind: "ConfigMap", meta, data };
}
