/**
 * One backend: which endpoints may serve a port of a Service.
 *
 * In: the name of a Service and a port, as an Ingress names them, and the cluster. Out: the endpoints, and why
 * there are none. Nothing here fails: without endpoints the answer is 503 until there are some.
 */

import { servingEndpoints } from "../../cluster/endpoints.ts";
import type { Service, ServicePort } from "../../cluster/model.ts";
import { parseAddress } from "../../edge-config/address.ts";
import type { ObjectName } from "../../edge-config/config.ts";
import { forbiddenHost, isDnsName } from "../annotations/addresses.ts";
import { quote } from "../annotations/readers.ts";
import { servicePlace } from "./destination.ts";
import type { Lookup } from "./lookup.ts";
import type { CompileOptions } from "./options.ts";
import type { BackendPlace } from "./plan.ts";

export interface Endpoints {
  /** `address:port`, sorted, without duplicates. */
  readonly endpoints: readonly string[];
  /** Why some or all are missing, as a sentence that goes on from the name of a field. */
  readonly trouble?: { readonly severity: "error" | "warning" | "info"; readonly message: string };
}

/** ExternalName Services may name each other; DNS gives up after as many steps too. */
const MAX_ALIASES = 8;

export function findEndpoints(
  place: BackendPlace,
  lookup: Lookup,
  options: CompileOptions,
  useClusterIp: boolean,
  depth = 0,
): Endpoints {
  const { namespace, service: name, port } = place;
  // An address that a URL named: it is its own endpoint, and `destination.ts` has already judged it.
  if (namespace === "") return { endpoints: [hostAndPort(name, port)] };

  const objectName: ObjectName = `${namespace}/${name}`;
  const service = lookup.get("services", objectName);
  if (service === undefined) return none("warning", `Service ${objectName} does not exist`);
  if (service.type === "ExternalName") return findExternal(place, service, lookup, options, depth);

  const servicePort = findPort(service, port);
  if (servicePort === undefined) {
    const known = service.ports.map((one) =>
      one.name === "" ? String(one.port) : `${one.port} (${one.name})`,
    );
    return none(
      "warning",
      `Service ${objectName} has no TCP port ${quote(port)}; it has ${known.length === 0 ? "none" : known.join(", ")}`,
    );
  }
  const [clusterIp] = service.clusterIPs;
  const found =
    useClusterIp && clusterIp !== undefined && clusterIp !== "None"
      ? [hostAndPort(clusterIp, String(servicePort.port))]
      : servingEndpoints(servicePort, lookup.get("endpointSlices", objectName) ?? []);
  const endpoints = options.allowLocalAddresses
    ? found
    : found.filter((endpoint) => forbiddenHost(hostOf(endpoint)) === undefined);
  const refused = found.find((endpoint) => !endpoints.includes(endpoint));
  if (refused !== undefined) {
    return {
      endpoints,
      trouble: {
        severity: "error",
        message: `has the endpoint ${refused}, a ${forbiddenHost(hostOf(refused))} address, which only "fairlead dev" may send requests to; it is left out.`,
      },
    };
  }
  return endpoints.length === 0
    ? none("info", `Service ${objectName} has no ready endpoint for port ${quote(port)}`)
    : { endpoints };
}

function none(severity: "error" | "warning" | "info", why: string): Endpoints {
  return { endpoints: [], trouble: { severity, message: `${why}; requests get 503 until there is one.` } };
}

/** By number, by the text of targetPort, or by name: the first port that fits, as in ingress-nginx (reference §2.1). */
export function findPort(service: Service, port: string): ServicePort | undefined {
  return service.ports.find(
    (one) =>
      one.protocol === "TCP" &&
      (String(one.port) === port || String(one.targetPort) === port || one.name === port),
  );
}

/** ExternalName: the name and the port; a port that the Service does not list may still be named by its number. */
function findExternal(
  { namespace, service: name, port }: BackendPlace,
  service: Service,
  lookup: Lookup,
  options: CompileOptions,
  depth: number,
): Endpoints {
  const objectName = `${namespace}/${name}`;
  const target = (service.externalName ?? "").toLowerCase().replace(/\.$/, "");
  const isNumber = /^[0-9]{1,5}$/.test(port);
  const listed = service.ports.find((one) => (isNumber ? String(one.port) === port : one.name === port));
  const targetPort = typeof listed?.targetPort === "number" ? listed.targetPort : listed?.port;
  const number =
    targetPort === undefined || targetPort === 0 ? (isNumber ? port : undefined) : String(targetPort);
  if (number === undefined) return none("warning", `Service ${objectName} has no port ${quote(port)}`);
  if (parseAddress(target) === undefined && !isDnsName(target)) {
    return none(
      "error",
      `Service ${objectName} has the externalName ${quote(target)}, which is not a DNS name`,
    );
  }
  const place = servicePlace(
    target,
    namespace,
    (other) => lookup.get("services", other) !== undefined,
    options,
  );
  if (place !== undefined) {
    if (depth >= MAX_ALIASES)
      return none("error", `Service ${objectName} is an alias of aliases that never end`);
    return findEndpoints({ ...place, port: number }, lookup, options, false, depth + 1);
  }
  const forbidden = forbiddenHost(target);
  if (forbidden !== undefined && !options.allowLocalAddresses) {
    return none(
      "error",
      `Service ${objectName} has the externalName ${quote(target)}, a ${forbidden} address, which the edge never calls`,
    );
  }
  return { endpoints: [hostAndPort(target, number)] };
}

function hostAndPort(host: string, port: string): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function hostOf(endpoint: string): string {
  const host = endpoint.slice(0, endpoint.lastIndexOf(":"));
  return host.startsWith("[") ? host.slice(1, -1) : host;
}
