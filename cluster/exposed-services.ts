/**
 * TCP and UDP ports that a ConfigMap exposes, in the format of ingress-nginx's `--tcp-services-configmap` and
 * `--udp-services-configmap`: `"9000": default/example:8080`.
 *
 * In: the ConfigMap's data. Out: which Service port is exposed at which port, in order of the ports, and diagnostics. An
 * entry is `namespace/service:port[:PROXY[:PROXY]]`; a port number is that of the Service (not its target port), anything
 * else the name of one. A third field `PROXY`, in any case, says that clients send a PROXY header; a fourth one that pods
 * get one (ingress-nginx, `getStreamServices` of internal/ingress/controller/controller.go). UDP ignores both.
 *
 * What exposing means is not here: rules of the kernel for a plain entry (the node agent), a proxy for one with `PROXY`
 * (`gateway/`), a socket on loopback for both in `fairlead dev`.
 */

import type { Diagnostic } from "./diagnostic.ts";
import { servingEndpoints } from "./endpoints.ts";
import type { ClusterModel, ConfigMap, ObjectName, Protocol, Service, ServicePort } from "./model.ts";

export interface ExposedService {
  readonly protocol: Protocol;
  /** Where clients connect: at every address of the node that has node ports, or of the proxy. */
  readonly nodePort: number;
  readonly service: ObjectName;
  /** A number is the Service's port, a text its name. */
  readonly port: number | string;
  /** Absent: plain, so that address translation can do it. */
  readonly proxyProtocol?: {
    /** Clients begin with a PROXY header. */
    readonly decode: boolean;
    /** Pods get one. */
    readonly encode: boolean;
  };
}

export interface ExposedServices {
  readonly exposed: readonly ExposedService[];
  readonly diagnostics: readonly Diagnostic[];
}

/** Ports that ingress-nginx keeps for itself, and what it has there; it skips such an entry, and so do we. */
const RESERVED_PORTS: ReadonlyMap<number, string> = new Map([
  [80, "HTTP"],
  [443, "HTTPS"],
  [442, "TLS passthrough"],
  [8181, "the default backend"],
  [10245, "profiling"],
  [10246, "status"],
  [10247, "streams"],
  [10254, "health"],
]);

export function readExposedServices({ meta, data }: ConfigMap, protocol: "TCP" | "UDP"): ExposedServices {
  const exposed = new Map<number, ExposedService>();
  const diagnostics: Diagnostic[] = [];
  const tell = (severity: Diagnostic["severity"], key: string, message: string): void => {
    const object = `${meta.namespace}/${meta.name}`;
    diagnostics.push({ severity, kind: "ConfigMap", object, field: `data[${key}]`, message });
  };
  for (const [key, value] of Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const entry = readEntry(key, value, protocol);
    if (typeof entry === "string") tell("error", key, entry);
    else if (exposed.has(entry.nodePort))
      tell("error", key, `port ${entry.nodePort} is exposed by another entry already; this one is ignored`);
    else {
      exposed.set(entry.nodePort, entry);
      const remark = remarkOn(value, protocol);
      if (remark !== undefined) tell("warning", key, remark);
    }
  }
  return { exposed: [...exposed.values()].sort((a, b) => a.nodePort - b.nodePort), diagnostics };
}

/** The entry, or what is wrong with it. */
function readEntry(key: string, value: string, protocol: "TCP" | "UDP"): ExposedService | string {
  const nodePort = /^\+?[0-9]{1,6}$/.test(key.trim()) ? Number(key) : Number.NaN;
  if (!(nodePort >= 1 && nodePort <= 65535))
    return `${JSON.stringify(key)} came where a port from 1 to 65535 is expected; the entry is ignored`;
  const reservedFor = RESERVED_PORTS.get(nodePort);
  if (reservedFor !== undefined)
    return `port ${nodePort} is reserved (${reservedFor}), as in ingress-nginx; the entry is ignored`;
  const [reference = "", portText = "", decode = "", encode = "", ...more] = fieldsOf(value);
  const [namespace = "", name = "", ...rest] = reference.split("/");
  if (namespace === "" || name === "" || rest.length > 0 || portText === "" || more.length > 0)
    return `${JSON.stringify(value)} came where namespace/service:port is expected, with PROXY once or twice behind it; the entry is ignored`;
  const number = /^[0-9]+$/.test(portText) ? Number(portText) : undefined;
  if (number !== undefined && !(number >= 1 && number <= 65535))
    return `${portText} came where a port of the Service is expected; the entry is ignored`;
  const plain = { protocol, nodePort, service: `${namespace}/${name}`, port: number ?? portText } as const;
  const proxyProtocol = { decode: isProxy(decode), encode: isProxy(encode) };
  // There is no PROXY protocol for datagrams.
  return protocol === "TCP" && (proxyProtocol.decode || proxyProtocol.encode)
    ? { ...plain, proxyProtocol }
    : plain;
}

/** What an entry says that means nothing. */
function remarkOn(value: string, protocol: "TCP" | "UDP"): string | undefined {
  const fields = fieldsOf(value).slice(2);
  const strange = fields.find((field) => field !== "" && !isProxy(field));
  if (strange !== undefined)
    return `${JSON.stringify(strange)} came where PROXY or nothing is expected; it is ignored`;
  if (protocol === "UDP" && fields.some(isProxy))
    return "PROXY came, which means something for TCP alone; it is ignored";
  return undefined;
}

function fieldsOf(value: string): readonly string[] {
  return value.trim().split(":");
}

function isProxy(field: string): boolean {
  return field.toUpperCase() === "PROXY";
}

export interface ServedPorts {
  /** Those that have endpoints. */
  readonly services: readonly { readonly exposed: ExposedService; readonly endpoints: readonly string[] }[];
  readonly diagnostics: readonly Diagnostic[];
}

/** Every port of a ConfigMap with the endpoints that may serve it, for whoever passes connections on itself. */
export function findExposedServices(
  model: Pick<ClusterModel, "configMaps" | "services" | "endpointSlices">,
  name: ObjectName,
  protocol: "TCP" | "UDP",
): ServedPorts {
  const configMap = model.configMaps.get(name);
  if (configMap === undefined) return { services: [], diagnostics: [missingConfigMap(name, protocol)] };
  const { exposed, diagnostics } = readExposedServices(configMap, protocol);
  const services: { readonly exposed: ExposedService; readonly endpoints: readonly string[] }[] = [];
  const troubles: Diagnostic[] = [];
  for (const one of exposed) {
    const found = endpointsOfExposed(one, model);
    if (found.kind === "endpoints") services.push({ exposed: one, endpoints: found.endpoints });
    else troubles.push(closedPort(name, one, found.reason));
  }
  return { services, diagnostics: [...diagnostics, ...troubles] };
}

export function missingConfigMap(name: ObjectName, protocol: "TCP" | "UDP"): Diagnostic {
  const message = `was named as the ConfigMap of ${protocol} services, but does not exist; none is exposed.`;
  return { severity: "warning", kind: "ConfigMap", object: name, message };
}

/** `reason` is a clause about something that is not there. */
export function closedPort(
  configMap: ObjectName,
  { nodePort }: Pick<ExposedService, "nodePort">,
  reason: string,
): Diagnostic {
  const message = `${reason}; the port is closed until there is one.`;
  return { severity: "warning", kind: "ConfigMap", object: configMap, field: `data[${nodePort}]`, message };
}

export type ExposedServicePort =
  | { readonly kind: "port"; readonly service: Service; readonly port: ServicePort }
  /** `reason` is a clause: `Service shop/db does not exist`. */
  | { readonly kind: "none"; readonly reason: string };

/** A number is looked for among the Service's ports, never its target ports. */
export function findExposedPort(
  { service: name, port, protocol }: Pick<ExposedService, "service" | "port" | "protocol">,
  { services }: Pick<ClusterModel, "services">,
): ExposedServicePort {
  const service = services.get(name);
  if (service === undefined) return { kind: "none", reason: `Service ${name} does not exist` };
  const found = service.ports.find(
    (one) => one.protocol === protocol && (typeof port === "number" ? one.port === port : one.name === port),
  );
  if (found === undefined)
    return { kind: "none", reason: `Service ${name} has no ${protocol} port ${JSON.stringify(port)}` };
  return { kind: "port", service, port: found };
}

export type ExposedEndpoints =
  | {
      readonly kind: "endpoints";
      /** `address:port`, sorted; never empty. */
      readonly endpoints: readonly string[];
    }
  /** `reason` is a clause: `Service shop/db does not exist`. */
  | { readonly kind: "none"; readonly reason: string };

/** Which endpoints may serve an exposed port. */
export function endpointsOfExposed(
  exposed: Pick<ExposedService, "service" | "port" | "protocol">,
  model: Pick<ClusterModel, "services" | "endpointSlices">,
): ExposedEndpoints {
  const found = findExposedPort(exposed, model);
  if (found.kind === "none") return found;
  const { service, port } = found;
  if (service.type === "ExternalName" && service.externalName !== undefined) {
    const target = typeof port.targetPort === "number" && port.targetPort > 0 ? port.targetPort : port.port;
    return { kind: "endpoints", endpoints: [`${service.externalName}:${target}`] };
  }
  const endpoints = servingEndpoints(port, model.endpointSlices.get(exposed.service) ?? []);
  if (endpoints.length > 0) return { kind: "endpoints", endpoints };
  const { service: name, protocol } = exposed;
  return {
    kind: "none",
    reason: `Service ${name} has no ready endpoint for its ${protocol} port ${JSON.stringify(exposed.port)}`,
  };
}
