/**
 * One raw object, from a file, the API or a push, as typed objects.
 *
 * In: whatever JSON holds. Out: objects of the model and diagnostics. Lists (`List`, `IngressList`, …) are taken apart,
 * also within each other; old Endpoints become EndpointSlices, so one object can give several. Kinds that we do not
 * know are left out with a note. Nothing throws.
 */

import type { Diagnostic } from "../diagnostic.ts";
import type { KubernetesObject } from "../model.ts";
import { isRawMap, type RawMap } from "../yaml/bare-map.ts";
import { readConfigMap } from "./config-map.ts";
import { readEndpointSlice } from "./endpoint-slice.ts";
import { readEndpoints } from "./endpoints.ts";
import { FieldReader } from "./field-reader.ts";
import { INGRESS_API_VERSIONS, isIngressApiVersion, readIngress } from "./ingress.ts";
import { readIngressClass } from "./ingress-class.ts";
import { type MetaRules, readMeta } from "./meta.ts";
import { readNode } from "./node.ts";
import { readPod } from "./pod.ts";
import { describeValue, ObjectReport, quote, type ReportSubject } from "./report.ts";
import { readSecret } from "./secret.ts";
import { readService } from "./service.ts";

export interface ParsedObjects {
  readonly objects: readonly KubernetesObject[];
  readonly diagnostics: readonly Diagnostic[];
  /** How many objects (items of lists too) were meant for us and could not be read; the diagnostics tell which. */
  readonly lost: number;
}

/** Lists in lists in lists: nobody nests them deeper, and aliases could make such a tree explode. */
const MAX_LIST_DEPTH = 8;

/** Every kind that we read, with the versions of it. */
const API_VERSIONS = {
  Ingress: INGRESS_API_VERSIONS,
  IngressClass: ["networking.k8s.io/v1", "networking.k8s.io/v1beta1"],
  Service: ["v1"],
  EndpointSlice: ["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"],
  Endpoints: ["v1"],
  Secret: ["v1"],
  ConfigMap: ["v1"],
  Node: ["v1"],
  Pod: ["v1"],
} as const satisfies Readonly<Record<string, readonly string[]>>;

type KnownKind = keyof typeof API_VERSIONS;

/** Reads one object; `origin` is where it came from, for people (`shop.yaml:12`). */
export function parseObject(raw: unknown, origin?: string): ParsedObjects {
  const objects: KubernetesObject[] = [];
  const diagnostics: Diagnostic[] = [];
  const lost = parseInto(raw, { origin, depth: 0, objects, diagnostics });
  return { objects, diagnostics, lost };
}

interface Parsing {
  /** Of the object, or of the list whose items are read. */
  readonly origin: string | undefined;
  readonly depth: number;
  readonly objects: KubernetesObject[];
  readonly diagnostics: Diagnostic[];
}

/** Adds what the object holds, at `index` of the list if it is an item; the answer is how many objects were lost. */
function parseInto(raw: unknown, parsing: Parsing, index?: number): number {
  if (!isRawMap(raw)) {
    nameless(parsing, index).add(
      "error",
      "",
      `${describeValue(raw)} came where a Kubernetes object is expected; it is skipped`,
    );
    return 1;
  }
  const kind = ownText(raw, "kind");
  const apiVersion = ownText(raw, "apiVersion");
  if (kind === undefined || apiVersion === undefined) {
    const missing =
      kind !== undefined ? "apiVersion" : apiVersion !== undefined ? "kind" : "apiVersion and kind";
    const what = kind === undefined ? "a document" : `a ${kind}`;
    nameless(parsing, index).add(
      "error",
      "",
      `${what} without ${missing} is no Kubernetes object; it is skipped`,
    );
    return 1;
  }
  if (kind.endsWith("List") && (Array.isArray(raw.items) || raw.items === null)) {
    return parseList(raw, kind, apiVersion, { ...parsing, origin: originOf(parsing, index) });
  }
  if (kind.endsWith("List") && raw.items !== undefined) {
    const message = `${describeValue(raw.items)} came where a list is expected; the ${kind} is skipped`;
    nameless(parsing, index).add("error", "items", message);
    return 1;
  }
  const report = new ObjectReport(new NamedObject(kind, raw, parsing, index), parsing.diagnostics);
  const versions: readonly string[] | undefined = isKnownKind(kind) ? API_VERSIONS[kind] : undefined;
  if (versions === undefined || !isKnownKind(kind) || !hasGroup(versions, apiVersion)) {
    report.add("info", "", `objects of ${apiVersion} ${kind} have no meaning here and are skipped`);
    return 0;
  }
  if (!versions.includes(apiVersion)) {
    report.add(
      "error",
      "apiVersion",
      `${quote(apiVersion)} came where ${versions.join(", ")} is expected; the object is skipped`,
    );
    return 1;
  }
  const root = new FieldReader(raw, report, "the object is skipped");
  const read = readKind(kind, apiVersion, root);
  if (read !== undefined && "kind" in read) parsing.objects.push(read);
  else if (read !== undefined) parsing.objects.push(...read);
  return root.failed ? 1 : 0;
}

/** As a report names it. */
class NamedObject implements ReportSubject {
  readonly kind: string;
  readonly #raw: RawMap;
  readonly #parsing: Parsing;
  readonly #index: number | undefined;

  constructor(kind: string, raw: RawMap, parsing: Parsing, index: number | undefined) {
    this.kind = kind;
    this.#raw = raw;
    this.#parsing = parsing;
    this.#index = index;
  }

  get object(): string {
    return nameOf(this.#raw, this.kind);
  }

  get origin(): string | undefined {
    return originOf(this.#parsing, this.#index);
  }
}

function originOf({ origin }: Parsing, index: number | undefined): string | undefined {
  return origin === undefined || index === undefined ? origin : `${origin} items[${index}]`;
}

function nameless(parsing: Parsing, index: number | undefined): ObjectReport {
  const object = originOf(parsing, index) ?? "";
  return new ObjectReport({ kind: "File", object, origin: undefined }, parsing.diagnostics);
}

function parseList(raw: RawMap, kind: string, apiVersion: string, parsing: Parsing): number {
  const subject = { kind, object: parsing.origin ?? "", origin: undefined };
  const report = new ObjectReport(subject, parsing.diagnostics);
  if (parsing.depth >= MAX_LIST_DEPTH) {
    report.add("error", "items", `lists within lists are deeper than ${MAX_LIST_DEPTH}; the list is skipped`);
    return 1;
  }
  const items = Array.isArray(raw.items) ? (raw.items as readonly unknown[]) : [];
  // Items of a typed list, as an API server answers it, need not say what they are.
  const itemKind = kind === "List" ? undefined : kind.slice(0, -"List".length);
  const ofItems: Parsing = { ...parsing, depth: parsing.depth + 1 };
  let lost = 0;
  items.forEach((item, index) => {
    const typed =
      itemKind !== undefined &&
      isRawMap(item) &&
      (ownText(item, "kind") ?? ownText(item, "apiVersion")) === undefined
        ? { ...item, kind: itemKind, apiVersion }
        : item;
    lost += parseInto(typed, ofItems, index);
  });
  return lost;
}

function readKind(
  kind: KnownKind,
  apiVersion: string,
  root: FieldReader,
): KubernetesObject | readonly KubernetesObject[] | undefined {
  const meta = readMeta(root, META_RULES[kind]);
  if (root.failed) return undefined;
  switch (kind) {
    case "Ingress":
      return isIngressApiVersion(apiVersion) ? readIngress(root, meta, apiVersion) : undefined;
    case "IngressClass":
      return readIngressClass(root, meta);
    case "Service":
      return readService(root, meta);
    case "EndpointSlice":
      return readEndpointSlice(root, meta);
    case "Endpoints":
      return readEndpoints(root, meta);
    case "Secret":
      return readSecret(root, meta);
    case "ConfigMap":
      return readConfigMap(root, meta);
    case "Node":
      return readNode(root, meta);
    case "Pod":
      return readPod(root, meta);
    default:
      return kind satisfies never;
  }
}

const NAMESPACED: MetaRules = { namespaced: true, name: "subdomain" };
const CLUSTER_SCOPED: MetaRules = { namespaced: false, name: "subdomain" };

const META_RULES: Readonly<Record<KnownKind, MetaRules>> = {
  Ingress: NAMESPACED,
  IngressClass: CLUSTER_SCOPED,
  Service: { namespaced: true, name: "label" },
  EndpointSlice: NAMESPACED,
  Endpoints: NAMESPACED,
  Secret: NAMESPACED,
  ConfigMap: NAMESPACED,
  Node: CLUSTER_SCOPED,
  Pod: NAMESPACED,
};

function isKnownKind(kind: string): kind is KnownKind {
  return Object.hasOwn(API_VERSIONS, kind);
}

/** True where the object is of the API group that we mean by its kind: Knative has a Service too. */
function hasGroup(versions: readonly string[], apiVersion: string): boolean {
  return versions.includes(apiVersion) || versions.some((known) => groupOf(known) === groupOf(apiVersion));
}

function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf("/");
  return slash < 0 ? "" : apiVersion.slice(0, slash);
}

function ownText(raw: RawMap, field: string): string | undefined {
  const value = Object.hasOwn(raw, field) ? raw[field] : undefined;
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** The object's name for diagnostics, whatever state its metadata is in. */
function nameOf(raw: RawMap, kind: string): string {
  const meta = raw.metadata;
  const name = isRawMap(meta) ? (ownText(meta, "name") ?? ownText(meta, "generateName")) : undefined;
  if (name === undefined) return "without a name";
  const short = name.length > 253 ? `${name.slice(0, 253)}…` : name;
  if (isKnownKind(kind) && !META_RULES[kind].namespaced) return short;
  const namespace = isRawMap(meta)
    ? (ownText(meta, "namespace") ?? (isKnownKind(kind) ? "default" : undefined))
    : undefined;
  return namespace === undefined ? short : `${namespace}/${short}`;
}
