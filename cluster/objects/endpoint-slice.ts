/**
 * EndpointSlice of discovery.k8s.io/v1 and v1beta1.
 *
 * nil has a meaning of its own in conditions: `ready` nil is ready, `serving` nil follows `ready`, `terminating` nil is not
 * (discovery/v1 types). Addresses become canonical; one that is none costs itself.
 */

import { parseIpAddress } from "../ip-address.ts";
import type { Endpoint, EndpointPort, EndpointSlice, ObjectMeta, ObjectName } from "../model.ts";
import type { FieldReader } from "./field-reader.ts";
import { type Draft, kept } from "./kept.ts";
import { isDnsSubdomain } from "./names.ts";
import { quote } from "./report.ts";
import { readProtocol } from "./service.ts";

/** Label by which a slice belongs to its Service. */
const SERVICE_NAME_LABEL = "kubernetes.io/service-name";

const KNOWN = new Set(["apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"]);
const KNOWN_ENDPOINT = new Set([
  "addresses",
  "conditions",
  "hostname",
  "targetRef",
  "nodeName",
  "zone",
  "hints",
  "deprecatedTopology",
  "topology",
]);
const ADDRESS_TYPES = ["IPv4", "IPv6", "FQDN"] as const;

export function readEndpointSlice(root: FieldReader, meta: ObjectMeta): EndpointSlice | undefined {
  root.knowsOnly(KNOWN, { subsets: "subsets belong to kind Endpoints" });
  const serviceName = meta.labels[SERVICE_NAME_LABEL] ?? "";
  const addressType = root.word("addressType", ADDRESS_TYPES);
  if (addressType === undefined && !root.has("addressType"))
    root.fail("addressType", "it is required and missing");
  const ports = readPorts(root);
  const endpoints: Endpoint[] = [];
  for (const reader of root.maps("endpoints", "the endpoint is ignored")) {
    const endpoint =
      addressType === undefined ? undefined : readEndpoint(reader, addressType, meta.namespace);
    if (endpoint !== undefined) endpoints.push(endpoint);
  }
  if (root.failed || addressType === undefined) return undefined;
  if (serviceName === "") {
    root.report.add(
      "warning",
      `metadata.labels["${SERVICE_NAME_LABEL}"]`,
      "the slice names no Service, so nothing uses it",
    );
    return undefined;
  }
  return {
    kind: "EndpointSlice",
    source: "EndpointSlice",
    meta,
    serviceName,
    addressType,
    ports,
    endpoints: kept(endpoints),
  };
}

function readPorts(root: FieldReader): readonly EndpointPort[] {
  const ports: EndpointPort[] = [];
  for (const reader of root.maps("ports", "the port is ignored")) {
    const port = readEndpointPort(reader);
    if (port !== undefined) ports.push(port);
  }
  return kept(ports);
}

export function readEndpointPort(reader: FieldReader): EndpointPort | undefined {
  const name = reader.text("name") ?? "";
  const protocol = readProtocol(reader);
  const port = reader.integer("port", 1, 65535);
  const appProtocol = reader.text("appProtocol");
  if (reader.failed) return undefined;
  const read: Draft<EndpointPort> = port === undefined ? { name, protocol } : { name, protocol, port };
  if (appProtocol !== undefined) read.appProtocol = appProtocol;
  return read;
}

function readEndpoint(
  reader: FieldReader,
  addressType: EndpointSlice["addressType"],
  namespace: string,
): Endpoint | undefined {
  reader.knowsOnly(KNOWN_ENDPOINT);
  const addresses = reader.texts("addresses").map((text, index) => {
    const address = canonicalAddress(text, addressType);
    if (address !== undefined) return address;
    reader.fail(`addresses[${index}]`, `${quote(text)} is no address of type ${addressType}`);
    return "";
  });
  const conditions = reader.map("conditions");
  const ready = conditions?.flag("ready") ?? true;
  const serving = conditions?.flag("serving") ?? ready;
  const terminating = conditions?.flag("terminating") ?? false;
  // v1beta1 kept node and zone in `topology`, by their labels.
  const topology = reader.map("topology") ?? reader.map("deprecatedTopology");
  const nodeName = reader.text("nodeName") ?? topology?.text("kubernetes.io/hostname");
  const zone = reader.text("zone") ?? topology?.text("topology.kubernetes.io/zone");
  const hostname = reader.text("hostname");
  const hints = reader.map("hints");
  const pod = readPodReference(reader, namespace);
  if (!reader.failed && addresses.length === 0) reader.fail("addresses", "it is required and missing");
  if (reader.failed) return undefined;
  const read: Draft<Endpoint> = {
    addresses,
    ready,
    serving,
    terminating,
    hintsForZones: readHints(hints, "forZones"),
    hintsForNodes: readHints(hints, "forNodes"),
  };
  if (nodeName !== undefined) read.nodeName = nodeName;
  if (zone !== undefined) read.zone = zone;
  if (hostname !== undefined) read.hostname = hostname;
  if (pod !== undefined) read.pod = pod;
  return read;
}

function canonicalAddress(text: string, addressType: EndpointSlice["addressType"]): string | undefined {
  if (addressType === "FQDN") {
    const name = text.toLowerCase();
    return isDnsSubdomain(name.endsWith(".") ? name.slice(0, -1) : name) ? name : undefined;
  }
  const address = parseIpAddress(text);
  return address?.family === addressType ? address.text : undefined;
}

const NO_HINTS: readonly string[] = [];

function readHints(hints: FieldReader | undefined, field: "forZones" | "forNodes"): readonly string[] {
  if (hints === undefined || !hints.has(field)) return NO_HINTS;
  return hints.maps(field, "the hint is ignored").flatMap((hint) => hint.requiredText("name") || []);
}

/** The Pod that an endpoint stands for, where its `targetRef` is one. */
export function readPodReference(reader: FieldReader, namespace: string): ObjectName | undefined {
  const target = reader.map("targetRef");
  if (target === undefined || target.text("kind") !== "Pod") return undefined;
  const name = target.text("name");
  return name === undefined ? undefined : `${target.text("namespace") ?? namespace}/${name}`;
}
