/** `metadata` of any object. */

import type { ObjectMeta } from "../model.ts";
import type { FieldReader } from "./field-reader.ts";
import type { Draft } from "./kept.ts";
import { DNS_LABEL_RULE, DNS_SUBDOMAIN_RULE, isDnsLabel, isDnsSubdomain } from "./names.ts";
import { quote } from "./report.ts";

const KNOWN = new Set([
  "name",
  "generateName",
  "namespace",
  "selfLink",
  "uid",
  "resourceVersion",
  "generation",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "labels",
  "annotations",
  "ownerReferences",
  "finalizers",
  "managedFields",
  "clusterName",
]);

export interface MetaRules {
  readonly namespaced: boolean;
  /** Services and Namespaces are named by one label, everything else by labels with dots between. */
  readonly name: "label" | "subdomain";
}

/** Reads `metadata`; what is wrong with it fails `root`. */
export function readMeta(root: FieldReader, rules: MetaRules): ObjectMeta {
  const meta = root.map("metadata");
  if (meta === undefined) {
    if (!root.failed) root.fail("metadata", "it is required and missing");
    return { namespace: "", name: "", labels: {}, annotations: {} };
  }
  meta.knowsOnly(KNOWN);
  const name = meta.requiredText("name");
  if (name !== "" && !(rules.name === "label" ? isDnsLabel(name) : isDnsSubdomain(name))) {
    meta.fail(
      "name",
      `${quote(name)} is no name: ${rules.name === "label" ? DNS_LABEL_RULE : DNS_SUBDOMAIN_RULE} are expected`,
    );
  }
  let namespace = "";
  if (rules.namespaced) {
    namespace = meta.text("namespace") || "default";
    if (!isDnsLabel(namespace))
      meta.fail("namespace", `${quote(namespace)} is no name: ${DNS_LABEL_RULE} are expected`);
  }
  const uid = meta.text("uid");
  const created = readTime(meta, "creationTimestamp");
  const generation = meta.integer("generation", 0, Number.MAX_SAFE_INTEGER);
  const resourceVersion = meta.text("resourceVersion");
  const read: Draft<ObjectMeta> = {
    namespace,
    name,
    labels: meta.textMap("labels"),
    annotations: meta.textMap("annotations"),
  };
  if (uid !== undefined) read.uid = uid;
  if (created !== undefined) read.creationTimestamp = created;
  if (generation !== undefined) read.generation = generation;
  if (resourceVersion !== undefined) read.resourceVersion = resourceVersion;
  return read;
}

/** RFC 3339 in UTC and whole seconds, as the API server writes it, so that texts sort as times do. */
function readTime(meta: FieldReader, field: string): string | undefined {
  const text = meta.text(field);
  if (text === undefined || text === "") return undefined;
  const time = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[-+]\d\d:\d\d)$/.test(text)
    ? Date.parse(text)
    : Number.NaN;
  if (Number.isNaN(time)) {
    meta.fail(field, `${quote(text)} came where a time such as 2026-01-31T12:00:00Z is expected`);
    return undefined;
  }
  const canonical = new Date(time).toISOString().replace(/\.\d+Z$/, "Z");
  // Nearly always the same; the text that came is in one piece, which takes half the memory.
  return canonical === text ? text : canonical;
}

/** True where `metadata.deletionTimestamp` is set. */
export function isBeingDeleted(root: FieldReader): boolean {
  return root.map("metadata")?.has("deletionTimestamp") ?? false;
}
