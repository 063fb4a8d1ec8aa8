/**
 * What of an object is worth keeping in memory for months.
 *
 * `managedFields` and the copy of itself that `kubectl apply` puts into an annotation are larger than all the rest. The
 * resource version changes with every touch, so without it an object that means the same stays the same.
 */

import type { RawObject } from "./reflector.ts";

const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

/** For `parseObject`; the object that came is not changed. */
export function trimmed(raw: RawObject): unknown {
  const {
    managedFields: _,
    resourceVersion: __,
    annotations,
    ...metadata
  } = raw.metadata as RawObject["metadata"] & {
    readonly managedFields?: unknown;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  if (annotations === undefined) return { ...raw, metadata };
  const { [LAST_APPLIED]: ___, ...rest } = annotations;
  return { ...raw, metadata: { ...metadata, annotations: rest } };
}
