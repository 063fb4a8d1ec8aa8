/**
 * Service of v1, with the API's defaults.
 *
 * A bad port or address costs itself; a bad traffic policy, affinity or source range costs the Service, because its
 * default would let in what the author meant to keep out (`loadBalancerSourceRanges`: an empty list allows everybody).
 */

import { parseIpAddress, parseIpRange } from "../ip-address.ts";
import type { LoadBalancerIngress, ObjectMeta, Protocol, Service, ServicePort } from "../model.ts";
import type { FieldReader } from "./field-reader.ts";
import { type Draft, kept } from "./kept.ts";
import { DNS_SUBDOMAIN_RULE, isDnsLabel, isDnsSubdomain, isPortName } from "./names.ts";
import { nearestWord } from "./nearest-word.ts";
import { describeValue, quote } from "./report.ts";

const KNOWN = new Set(["apiVersion", "kind", "metadata", "spec", "status"]);
const KNOWN_SPEC = new Set([
  "allocateLoadBalancerNodePorts",
  "clusterIP",
  "clusterIPs",
  "externalIPs",
  "externalName",
  "externalTrafficPolicy",
  "healthCheckNodePort",
  "internalTrafficPolicy",
  "ipFamilies",
  "ipFamily",
  "ipFamilyPolicy",
  "loadBalancerClass",
  "loadBalancerIP",
  "loadBalancerSourceRanges",
  "ports",
  "publishNotReadyAddresses",
  "selector",
  "sessionAffinity",
  "sessionAffinityConfig",
  "topologyKeys",
  "trafficDistribution",
  "type",
]);
const KNOWN_PORT = new Set(["appProtocol", "name", "nodePort", "port", "protocol", "targetPort"]);

export const PROTOCOLS = ["TCP", "UDP", "SCTP"] as const;
const TYPES = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] as const;
const POLICIES = ["Cluster", "Local"] as const;
const AFFINITIES = ["None", "ClientIP"] as const;
const IP_MODES = ["VIP", "Proxy"] as const;

/** Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`: three hours. */
const DEFAULT_AFFINITY_SECONDS = 10_800;
const MAX_AFFINITY_SECONDS = 86_400;

export function readService(root: FieldReader, meta: ObjectMeta): Service | undefined {
  root.knowsOnly(KNOWN);
  const spec = root.map("spec");
  if (spec === undefined) {
    if (!root.failed) root.fail("spec", "it is required and missing");
    return undefined;
  }
  spec.knowsOnly(KNOWN_SPEC, {
    port: "ports is a list of ports",
    annotations: "annotations belong into metadata.annotations",
  });
  warnOfUnknownAnnotations(root, meta);
  const type = spec.word("type", TYPES) ?? "ClusterIP";
  const externalName = type === "ExternalName" ? readExternalName(spec) : undefined;
  const clusterIPs = type === "ExternalName" ? [] : readClusterIPs(spec);
  const headless = clusterIPs[0] === "None";
  const ports = readPorts(spec);
  if (ports.length === 0 && !spec.has("ports") && type !== "ExternalName" && !headless) {
    root.report.add("error", "spec.ports", "it is required and missing; nothing can reach the Service");
  }
  const selector = spec.has("selector") ? spec.textMap("selector") : undefined;
  const affinity = readAffinitySeconds(spec);
  const healthCheckNodePort = spec.integer("healthCheckNodePort", 0, 65535);
  const trafficDistribution = spec.text("trafficDistribution");
  const service: Draft<Service> = {
    kind: "Service",
    meta,
    type,
    clusterIPs: kept(clusterIPs),
    ports: kept(ports),
    externalIPs: kept(readAddresses(spec, "externalIPs")),
    loadBalancerSourceRanges: kept(readSourceRanges(spec)),
    loadBalancerIngress: kept(readLoadBalancerIngress(root)),
    internalTrafficPolicy: spec.word("internalTrafficPolicy", POLICIES) ?? "Cluster",
    externalTrafficPolicy: spec.word("externalTrafficPolicy", POLICIES) ?? "Cluster",
    publishNotReadyAddresses: spec.flag("publishNotReadyAddresses") ?? false,
    allocateLoadBalancerNodePorts: spec.flag("allocateLoadBalancerNodePorts") ?? true,
  };
  if (externalName !== undefined) service.externalName = externalName;
  if (selector !== undefined) service.selector = selector;
  if (healthCheckNodePort !== undefined && healthCheckNodePort !== 0)
    service.healthCheckNodePort = healthCheckNodePort;
  if (affinity !== undefined) service.sessionAffinityTimeoutSeconds = affinity;
  if (trafficDistribution !== undefined) service.trafficDistribution = trafficDistribution;
  return root.failed ? undefined : service;
}

/** What only a node looks at; others' annotations are none of our business. */
const OWN_PREFIX = "fairlead.dev/";
const OWN_ANNOTATIONS = new Set(["balance", "weights", "ipvs-scheduler"].map((name) => OWN_PREFIX + name));

function warnOfUnknownAnnotations(root: FieldReader, { annotations }: ObjectMeta): void {
  for (const annotation of Object.keys(annotations)) {
    if (!annotation.startsWith(OWN_PREFIX) || OWN_ANNOTATIONS.has(annotation)) continue;
    const near = nearestWord(annotation, OWN_ANNOTATIONS);
    const hint = near === undefined ? "" : `; is ${near} meant?`;
    root.warn(
      `metadata.annotations[${quote(annotation)}]`,
      `the annotation is not known here and is ignored${hint}`,
    );
  }
}

/** Absent where it is no DNS name: then the Service has no endpoint. */
function readExternalName(spec: FieldReader): string | undefined {
  const name = spec.text("externalName") ?? "";
  const bare = name.endsWith(".") ? name.slice(0, -1) : name;
  if (isDnsSubdomain(bare.toLowerCase()) || parseIpAddress(bare) !== undefined) return name;
  const came =
    name === "" ? "it is required for type ExternalName and missing" : `${quote(name)} is no DNS name`;
  spec.report.add(
    "error",
    spec.pathOf("externalName"),
    `${came}: ${DNS_SUBDOMAIN_RULE} are expected; the Service has no endpoint`,
  );
  return undefined;
}

function readClusterIPs(spec: FieldReader): readonly string[] {
  const listed = spec.texts("clusterIPs");
  const single = spec.text("clusterIP");
  const texts = listed.length > 0 ? listed : single === undefined || single === "" ? [] : [single];
  const canonical = (text = "") => parseIpAddress(text)?.text ?? text;
  if (single !== undefined && single !== "" && canonical(single) !== canonical(texts[0]))
    spec.report.add(
      "error",
      spec.pathOf("clusterIP"),
      `${quote(single)} is not the first of clusterIPs, ${quote(texts[0] ?? "")}; it is ignored`,
    );
  if (texts[0] === "None") return ["None"];
  const field = listed.length > 0 ? "clusterIPs" : "clusterIP";
  const families = new Set<string>();
  return canonicalAddresses(spec, field, texts).filter((address) => {
    const family = parseIpAddress(address)?.family ?? "";
    if (!families.has(family)) return families.add(family);
    const message = `${quote(address)} is a second address of ${family}; it is ignored`;
    spec.report.add("error", spec.pathOf(field), message);
    return false;
  });
}

function readAddresses(spec: FieldReader, field: string): readonly string[] {
  return canonicalAddresses(spec, field, spec.texts(field));
}

function canonicalAddresses(reader: FieldReader, field: string, texts: readonly string[]): readonly string[] {
  if (texts.length === 0) return texts;
  const addresses = new Set<string>();
  for (const text of texts) {
    const address = parseIpAddress(text.trim());
    if (address !== undefined) addresses.add(address.text);
    else
      reader.report.add(
        "error",
        reader.pathOf(field),
        `${quote(text)} is no IP address; the address is ignored`,
      );
  }
  return [...addresses];
}

function readSourceRanges(spec: FieldReader): readonly string[] {
  const ranges: string[] = [];
  for (const [index, text] of spec.texts("loadBalancerSourceRanges").entries()) {
    const range = parseIpRange(text.trim());
    if (range !== undefined) ranges.push(range.text);
    else spec.fail(`loadBalancerSourceRanges[${index}]`, `${quote(text)} is no range such as 203.0.113.0/24`);
  }
  return ranges;
}

function readPorts(spec: FieldReader): readonly ServicePort[] {
  const readers = spec.maps("ports", "the port is ignored");
  const ports: ServicePort[] = [];
  for (const reader of readers) {
    reader.knowsOnly(KNOWN_PORT);
    const port = readPort(reader, readers.length > 1);
    if (port === undefined) continue;
    const twin = ports.find(
      (other) => other.name === port.name || (other.port === port.port && other.protocol === port.protocol),
    );
    if (twin === undefined) ports.push(port);
    else if (twin.name === port.name)
      reader.fail("name", `${quote(port.name)} is the name of another port already`);
    else reader.fail("port", `${port.port}/${port.protocol} is another port already`);
  }
  return ports;
}

function readPort(reader: FieldReader, nameRequired: boolean): ServicePort | undefined {
  const name = reader.text("name") ?? "";
  if (name === "" && nameRequired)
    reader.fail("name", "it is required where a Service has several ports, and missing");
  if (name !== "" && !isDnsLabel(name)) reader.fail("name", `${quote(name)} is no name of a port`);
  const port = reader.integer("port", 1, 65535);
  if (port === undefined && !reader.has("port")) reader.fail("port", "it is required and missing");
  const protocol = readProtocol(reader);
  const appProtocol = reader.text("appProtocol");
  const nodePort = reader.integer("nodePort", 0, 65535);
  const targetPort = readTargetPort(reader, port ?? 0);
  if (reader.failed || port === undefined || targetPort === undefined) return undefined;
  const read: Draft<ServicePort> = { name, protocol, port, targetPort };
  if (appProtocol !== undefined) read.appProtocol = appProtocol;
  if (nodePort !== undefined && nodePort !== 0) read.nodePort = nodePort;
  return read;
}

export function readProtocol(reader: FieldReader): Protocol {
  return reader.word("protocol", PROTOCOLS) ?? "TCP";
}

/** A number, or the name of a container port; the Service's own port where the file tells none (or 0, the API's absent). */
function readTargetPort(reader: FieldReader, port: number): number | string | undefined {
  const value = reader.raw.targetPort;
  if (!reader.has("targetPort") || value === 0 || value === "") return port;
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 65535) return value;
  if (typeof value === "string" && isPortName(value)) return value;
  const hint = typeof value === "string" && /^[0-9]+$/.test(value) ? " (without quotes)" : "";
  reader.fail(
    "targetPort",
    `${describeValue(value)} came where a number from 1 to 65535 or a port name is expected${hint}`,
  );
  return undefined;
}

function readAffinitySeconds(spec: FieldReader): number | undefined {
  const affinity = spec.word("sessionAffinity", AFFINITIES) ?? "None";
  const clientIP = spec.map("sessionAffinityConfig")?.map("clientIP");
  const seconds = clientIP?.integer("timeoutSeconds", 1, MAX_AFFINITY_SECONDS);
  return affinity === "ClientIP" ? (seconds ?? DEFAULT_AFFINITY_SECONDS) : undefined;
}

function readLoadBalancerIngress(root: FieldReader): readonly LoadBalancerIngress[] {
  const loadBalancer = root.map("status", "the status is ignored")?.map("loadBalancer");
  const entries: LoadBalancerIngress[] = [];
  for (const entry of loadBalancer?.maps("ingress", "the address is ignored") ?? []) {
    const ipText = entry.text("ip") ?? "";
    const hostname = entry.text("hostname");
    const ip = parseIpAddress(ipText);
    const ipMode = entry.word("ipMode", IP_MODES) ?? "VIP";
    if (ipText !== "" && ip === undefined) entry.fail("ip", `${quote(ipText)} is no IP address`);
    if (entry.failed) continue;
    entries.push({
      ...(ip === undefined ? {} : { ip: ip.text }),
      ...(hostname === undefined ? {} : { hostname }),
      ipMode,
    });
  }
  return entries;
}
