/**
 * Which endpoints of a Service may serve a request that comes in at the edge.
 *
 * This page is the specification; the node agent has its own (traffic policies, terminating endpoints, zones), in
 * `wasm-nat`. It is what ingress-nginx does (internal/ingress/controller/endpointslices.go), with one difference, below.
 *
 * An endpoint serves if its condition `ready` is not false. Nothing else counts: one that is terminating but still serving
 * is not used, as in ingress-nginx; one of a Service with `publishNotReadyAddresses` is ready by the API's own doing.
 *
 * Its port is that of the slice's port with the Service port's protocol and name:
 * - a Service port without a name (then it is the only one) takes every port of the slice with its protocol;
 * - a slice without ports, or with ports of that protocol but none of that name or none with a number, takes the Service's
 *   target port if that is a number (kubernetes/ingress-nginx#7390). ingress-nginx adds the target port beside a port that was found;
 *   here the port of the slice is then the only one, because two answers to one question would both get traffic.
 *
 * Headless Services are like the others: the edge never uses a ClusterIP. Services of type ExternalName have no slices:
 * `control/compile` makes their one endpoint. Slices of all address types count.
 */

import { hostPort } from "./ip-address.ts";
import type { EndpointSlice, Service, ServicePort } from "./model.ts";

/**
 * The `address:port` of every endpoint that may serve a port of a Service, IPv6 in brackets, sorted, each once however many
 * slices hold it. Empty where none may.
 */
export function servingEndpoints(port: ServicePort, slices: readonly EndpointSlice[]): readonly string[] {
  const endpoints = new Set<string>();
  for (const slice of slices) {
    const numbers = portsOfSlice(port, slice);
    for (const endpoint of slice.endpoints) {
      if (!endpoint.ready) continue;
      for (const address of endpoint.addresses) {
        for (const number of numbers) endpoints.add(hostPort(address, number));
      }
    }
  }
  return [...endpoints].sort();
}

function portsOfSlice(port: ServicePort, slice: EndpointSlice): readonly number[] {
  const candidates = slice.ports.filter((candidate) => candidate.protocol === port.protocol);
  const numbers = candidates.flatMap((candidate) =>
    candidate.port !== undefined && (port.name === "" || port.name === candidate.name)
      ? [candidate.port]
      : [],
  );
  if (numbers.length > 0) return numbers;
  if (candidates.length === 0 && slice.ports.length > 0) return [];
  return typeof port.targetPort === "number" ? [port.targetPort] : [];
}

/**
 * The port of a Service that an Ingress backend names: by its number, else by a target port of that name, else by its own
 * name (ingress-nginx looks in this order). Undefined where the Service has none.
 */
export function findServicePort(
  service: Service,
  wanted: { readonly number: number } | { readonly name: string },
): ServicePort | undefined {
  if ("number" in wanted) return service.ports.find((port) => port.port === wanted.number);
  return service.ports.find((port) => port.targetPort === wanted.name || port.name === wanted.name);
}
