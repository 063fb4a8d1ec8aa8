/**
 * Ingress of the three API versions that manifests are written in, as one type.
 *
 * Checked as the API server checks (`pkg/apis/networking/validation`), but a bad path costs that path and a bad rule that
 * rule: the others are served. v1beta1 (both groups) differs in `spec.backend`, `serviceName`, `servicePort`, and in a
 * `pathType` that may be missing.
 */

import { parseIpAddress } from "../ip-address.ts";
import type {
  Ingress,
  IngressBackend,
  IngressPath,
  IngressRule,
  IngressTls,
  ObjectMeta,
  ServiceBackendPort,
} from "../model.ts";
import type { FieldReader } from "./field-reader.ts";
import { DNS_SUBDOMAIN_RULE, isDnsLabel, isDnsSubdomain, isPortName, isWildcardSubdomain } from "./names.ts";
import { describeValue, quote } from "./report.ts";

export const INGRESS_API_VERSIONS = [
  "networking.k8s.io/v1",
  "networking.k8s.io/v1beta1",
  "extensions/v1beta1",
] as const;

const KNOWN = new Set(["apiVersion", "kind", "metadata", "spec", "status"]);
const KNOWN_SPEC = new Set(["ingressClassName", "defaultBackend", "tls", "rules"]);
const KNOWN_SPEC_BETA = new Set(["ingressClassName", "backend", "tls", "rules"]);
const KNOWN_TLS = new Set(["hosts", "secretName"]);
const KNOWN_RULE = new Set(["host", "http"]);
const KNOWN_HTTP = new Set(["paths"]);
const KNOWN_PATH = new Set(["path", "pathType", "backend"]);
const KNOWN_BACKEND = new Set(["service", "resource"]);
const KNOWN_BACKEND_BETA = new Set(["serviceName", "servicePort", "resource"]);
const KNOWN_SERVICE = new Set(["name", "port"]);
const KNOWN_PORT = new Set(["name", "number"]);

const PATH_TYPES = ["Exact", "Prefix", "ImplementationSpecific"] as const;
const RULE_IGNORED = "the rule is ignored";
const PATH_IGNORED = "the path is ignored";
const DEFAULT_BACKEND_IGNORED = "the default backend is ignored";
const TLS_IGNORED = "the entry is ignored";

/** Reads an Ingress; undefined where the whole object cannot count (`root.failed`). */
export function readIngress(
  root: FieldReader,
  meta: ObjectMeta,
  apiVersion: Ingress["apiVersion"],
): Ingress | undefined {
  const beta = apiVersion !== "networking.k8s.io/v1";
  root.knowsOnly(KNOWN, {
    annotations: "annotations belong into metadata.annotations",
    labels: "labels belong into metadata.labels",
    tls: "tls belongs into spec.tls",
    rules: "rules belong into spec.rules",
  });
  const spec = root.map("spec");
  if (spec === undefined) {
    if (!root.failed) root.fail("spec", "it is required and missing");
    return undefined;
  }
  spec.knowsOnly(beta ? KNOWN_SPEC_BETA : KNOWN_SPEC, {
    backend: `${apiVersion} calls it defaultBackend`,
    defaultBackend: `${apiVersion} calls it backend`,
    annotations: "annotations belong into metadata.annotations",
  });
  const ingressClassName = spec.text("ingressClassName");
  const backendField = beta ? "backend" : "defaultBackend";
  const backendReader = spec.map(backendField, DEFAULT_BACKEND_IGNORED);
  const defaultBackend = backendReader === undefined ? undefined : readBackend(backendReader, beta);
  const rules = readRules(spec, beta, defaultBackend !== undefined);
  const tls = readTls(spec);
  if (!spec.has("rules") && !spec.has(backendField)) {
    root.report.add(
      "error",
      "spec",
      `neither rules nor a ${backendField} is given; the Ingress serves nothing`,
    );
  }
  if (root.failed) return undefined;
  return {
    kind: "Ingress",
    apiVersion,
    meta,
    ...(ingressClassName === undefined || ingressClassName === "" ? {} : { ingressClassName }),
    ...(defaultBackend === undefined ? {} : { defaultBackend }),
    tls,
    rules,
  };
}

function readTls(spec: FieldReader): readonly IngressTls[] {
  const entries: IngressTls[] = [];
  for (const entry of spec.maps("tls", TLS_IGNORED)) {
    entry.knowsOnly(KNOWN_TLS);
    const secretName = entry.text("secretName");
    const hosts: string[] = [];
    for (const [index, text] of entry.texts("hosts").entries()) {
      const host = readHost(text);
      if ("host" in host) hosts.push(host.host);
      else entry.report.add("error", `${entry.path}.hosts[${index}]`, `${host.problem}; the host is ignored`);
    }
    if (entry.failed) continue;
    entries.push({ hosts, ...(secretName === undefined || secretName === "" ? {} : { secretName }) });
  }
  return entries;
}

function readRules(spec: FieldReader, beta: boolean, hasDefaultBackend: boolean): readonly IngressRule[] {
  const rules: IngressRule[] = [];
  for (const rule of spec.maps("rules", RULE_IGNORED)) {
    rule.knowsOnly(KNOWN_RULE, { tls: "tls belongs into spec.tls", paths: "paths belong into http.paths" });
    const host = readHost(rule.text("host") ?? "");
    if ("problem" in host) rule.fail("host", host.problem);
    const http = rule.map("http");
    const paths = http === undefined ? undefined : readPaths(http, beta);
    if (rule.failed || "problem" in host) continue;
    if (paths === undefined && !hasDefaultBackend) {
      rule.warn("", "the rule has no http and the Ingress no default backend, so nothing answers for it");
    }
    rules.push({ host: host.host, ...(paths === undefined ? {} : { paths }) });
  }
  return rules;
}

/** A host in lower case; empty for every host. IP addresses, ports and wildcards beyond one leading label are refused. */
function readHost(text: string): { readonly host: string } | { readonly problem: string } {
  // Host names know no case (RFC 4343), and the API server takes lower case only; lowering is what everybody means.
  const host = text.toLowerCase();
  if (host === "") return { host };
  if (parseIpAddress(host) !== undefined)
    return { problem: `${quote(text)} is an IP address where a host name is expected` };
  if (host.includes("*")) {
    if (isWildcardSubdomain(host)) return { host };
    return { problem: `${quote(text)} came where a host name or one such as *.example.com is expected` };
  }
  if (isDnsSubdomain(host)) return { host };
  if (/:\d+$/.test(host)) return { problem: `${quote(text)} has a port, and a host rule is for every port` };
  return { problem: `${quote(text)} is no host name: ${DNS_SUBDOMAIN_RULE} are expected` };
}

function readPaths(http: FieldReader, beta: boolean): readonly IngressPath[] {
  http.knowsOnly(KNOWN_HTTP, { tls: "tls belongs into spec.tls" });
  const paths: IngressPath[] = [];
  for (const entry of http.maps("paths", PATH_IGNORED)) {
    entry.knowsOnly(KNOWN_PATH, { tls: "tls belongs into spec.tls" });
    const path = readPath(entry, beta);
    if (path !== undefined) paths.push(path);
  }
  if (!http.failed && !http.has("paths")) {
    http.report.add(
      "error",
      http.pathOf("paths"),
      "it is required and missing; nothing of the rule is served",
    );
  }
  return paths;
}

function readPath(entry: FieldReader, beta: boolean): IngressPath | undefined {
  const path = entry.text("path") || "/";
  let pathType = entry.word("pathType", PATH_TYPES);
  if (pathType === undefined && !entry.failed) {
    if (!beta)
      entry.fail(
        "pathType",
        `it is required in networking.k8s.io/v1 and missing; ${PATH_TYPES.join(", ")} are expected`,
      );
    pathType = "ImplementationSpecific";
  }
  const problem = problemOfPath(path, pathType ?? "ImplementationSpecific");
  if (problem !== undefined) entry.fail("path", `${quote(path)} ${problem}`);
  const backendReader = entry.map("backend");
  if (backendReader === undefined && !entry.has("backend"))
    entry.fail("backend", "it is required and missing");
  const backend = backendReader === undefined ? undefined : readBackend(backendReader, beta);
  if (entry.failed || backend === undefined || pathType === undefined) return undefined;
  return { path, pathType, backend };
}

/** What the API server minds about a path, and what no URL path can hold. */
function problemOfPath(path: string, pathType: IngressPath["pathType"]): string | undefined {
  if (!path.startsWith("/")) return "does not begin with /";
  // A line break or NUL never matches a request; in ingress-nginx it was a way into its configuration (CVE-2021-25748).
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for.
  if (/[\u0000-\u001f\u007f]/.test(path)) return "holds a control character";
  if (pathType === "ImplementationSpecific") return undefined;
  for (const part of ["//", "/./", "/../", "%2f", "%2F"]) {
    if (path.includes(part)) return `holds ${quote(part)}, which no path of type ${pathType} may`;
  }
  for (const end of ["/..", "/."])
    if (path.endsWith(end)) return `ends with ${quote(end)}, which no path of type ${pathType} may`;
  return undefined;
}

function readBackend(backend: FieldReader, beta: boolean): IngressBackend | undefined {
  backend.knowsOnly(beta ? KNOWN_BACKEND_BETA : KNOWN_BACKEND, {
    serviceName: "networking.k8s.io/v1 writes service.name",
    servicePort: "networking.k8s.io/v1 writes service.port.number or service.port.name",
    service: "v1beta1 writes serviceName and servicePort",
  });
  const serviceField = beta ? "serviceName" : "service";
  if (backend.has("resource")) {
    if (backend.has(serviceField))
      backend.fail("", `both ${serviceField} and resource are given where one is expected`);
    return readResource(backend);
  }
  if (!backend.has(serviceField)) {
    backend.fail(serviceField, "it is required and missing");
    return undefined;
  }
  return beta ? readServiceOfBeta(backend) : readServiceOfV1(backend);
}

function readResource(backend: FieldReader): IngressBackend | undefined {
  const resource = backend.map("resource");
  if (resource === undefined) return undefined;
  const apiGroup = resource.text("apiGroup") ?? "";
  const resourceKind = resource.requiredText("kind");
  const name = resource.requiredText("name");
  return backend.failed ? undefined : { kind: "Resource", apiGroup, resourceKind, name };
}

function readServiceOfV1(backend: FieldReader): IngressBackend | undefined {
  const service = backend.map("service");
  if (service === undefined) return undefined;
  service.knowsOnly(KNOWN_SERVICE);
  const name = readServiceName(service, "name");
  const port = service.map("port");
  if (port === undefined) {
    if (!service.has("port")) service.fail("port", "it is required and missing");
    return undefined;
  }
  port.knowsOnly(KNOWN_PORT);
  const number = port.integer("number", 0, 65535);
  const portName = port.text("name");
  // Zero is the API's way to say absent.
  const hasNumber = number !== undefined && number !== 0;
  const hasName = portName !== undefined && portName !== "";
  if (port.failed) return undefined;
  if (hasNumber && hasName)
    port.fail("", `both number ${number} and name ${quote(portName)} are given where one is expected`);
  else if (!hasNumber && !hasName) port.fail("", "neither number (1 to 65535) nor name is given");
  else if (hasName && !isPortName(portName)) port.fail("name", `${quote(portName)} is no port name`);
  if (backend.failed || name === undefined) return undefined;
  return { kind: "Service", name, port: hasNumber ? { number } : { name: portName ?? "" } };
}

function readServiceOfBeta(backend: FieldReader): IngressBackend | undefined {
  const name = readServiceName(backend, "serviceName");
  const port = readPortOfBeta(backend);
  if (backend.failed || name === undefined || port === undefined) return undefined;
  return { kind: "Service", name, port };
}

/** A number, or a text: of digits it is a number, else a name. */
function readPortOfBeta(backend: FieldReader): ServiceBackendPort | undefined {
  const value = backend.raw.servicePort;
  if (!backend.has("servicePort")) {
    backend.fail("servicePort", "it is required and missing");
    return undefined;
  }
  const number = typeof value === "string" && /^[0-9]+$/.test(value) ? Number(value) : value;
  if (typeof number === "number" && Number.isInteger(number) && number >= 1 && number <= 65535)
    return { number };
  if (typeof number === "string" && isPortName(number)) return { name: number };
  backend.fail(
    "servicePort",
    `${describeValue(value)} came where a number from 1 to 65535 or a port name is expected`,
  );
  return undefined;
}

function readServiceName(reader: FieldReader, field: string): string | undefined {
  const name = reader.requiredText(field);
  if (name === "") return undefined;
  if (isDnsLabel(name)) return name;
  reader.fail(field, `${quote(name)} is no name of a Service`);
  return undefined;
}

/** True for an object that says it is an Ingress of a version that we read. */
export function isIngressApiVersion(apiVersion: string): apiVersion is Ingress["apiVersion"] {
  return (INGRESS_API_VERSIONS as readonly string[]).includes(apiVersion);
}
