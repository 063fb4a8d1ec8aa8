/**
 * How the edge reaches a URL that an annotation names.
 *
 * - A Service (`auth.shop.svc`, with or without the cluster's domain; `auth.shop` or `auth` where such a Service
 *   exists): a backend like any other, balanced and retried.
 * - An address: a backend with that one endpoint, so it goes through the origin transport and its allow-list.
 * - The request's own host (`https://$host/oauth2/auth`): the edge itself, whatever the port.
 * - Any other name: a public URL.
 *
 * Loopback, link-local and metadata addresses are refused, unless the operator develops on this machine.
 */

import { parseAddress } from "../../edge-config/address.ts";
import type { ObjectName } from "../../edge-config/config.ts";
import type { Destination } from "../../edge-config/destination.ts";
import { forbiddenHost, isServiceName } from "../annotations/addresses.ts";
import type { UrlText } from "../annotations/url.ts";
import type { HostContext } from "../features/feature.ts";
import type { CompileOptions } from "./options.ts";

export interface ServicePlace {
  readonly namespace: string;
  readonly service: string;
}

type Resolved = ReturnType<HostContext["destination"]>;

export function resolveDestination(
  url: UrlText,
  context: Pick<HostContext, "namespace" | "backendOf">,
  serviceExists: (name: ObjectName) => boolean,
  options: CompileOptions,
): Resolved {
  const { scheme, host, target } = url;
  if (host.kind === "OfTheRequest") {
    return { kind: "Found", destination: { kind: "Self", scheme, target } };
  }
  const backend = (namespace: string, service: string): Resolved => {
    const destination: Destination = {
      kind: "Backend",
      scheme,
      backend: context.backendOf(namespace, service, String(host.port)),
      host: host.authority,
      target,
    };
    return { kind: "Found", destination };
  };
  const place = servicePlace(host.name, context.namespace, serviceExists, options);
  if (place !== undefined) return backend(place.namespace, place.service);
  const forbidden = forbiddenHost(host.name);
  if (forbidden !== undefined && !options.allowLocalAddresses) {
    return { kind: "Missing", reason: `${host.name} is a ${forbidden} address, which the edge never calls` };
  }
  if (forbidden !== undefined || parseAddress(host.name) !== undefined) return backend("", host.name);
  if (isInCluster(host.name, options)) {
    return {
      kind: "Missing",
      reason: `${host.name} is a name inside the cluster, but not that of a Service (name.namespace.svc)`,
    };
  }
  return { kind: "Found", destination: { kind: "Url", scheme, host: host.authority, target } };
}

/** The Service that a DNS name means inside a cluster; short names only where such a Service exists. */
export function servicePlace(
  name: string,
  namespace: string,
  serviceExists: (name: ObjectName) => boolean,
  options: CompileOptions,
): ServicePlace | undefined {
  const suffix = `.svc.${options.clusterDomain ?? "cluster.local"}`;
  const short = name.endsWith(suffix)
    ? name.slice(0, -suffix.length)
    : name.endsWith(".svc")
      ? name.slice(0, -4)
      : undefined;
  const labels = (short ?? name).split(".");
  const [service = "", space = short === undefined ? namespace : ""] = labels;
  if (labels.length > 2 || space === "" || !isServiceName(service)) return undefined;
  return short !== undefined || serviceExists(`${space}/${service}`)
    ? { namespace: space, service }
    : undefined;
}

function isInCluster(name: string, options: CompileOptions): boolean {
  return name.endsWith(".svc") || name.endsWith(`.${options.clusterDomain ?? "cluster.local"}`);
}
