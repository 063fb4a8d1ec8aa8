import type { ObjectName } from "./model.ts";

/** `namespace/name`, as one flat text: of a template V8 would keep the parts, which are three texts for one. */
export function objectName(namespace: string, name: string): ObjectName {
  return [namespace, name].join("/") as ObjectName;
}
