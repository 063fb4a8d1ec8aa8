/** The cluster of the control service's benchmarks: an Ingress, a Service and a slice with a few endpoints, many times. */

import type { Manifest } from "../../tests/kubernetes/support/api-server.ts";
import { ingress, service, slice } from "../../tests/kubernetes/support/objects.ts";

export const INGRESSES = 10_000;
export const ENDPOINTS_EACH = 5;
export const NAMESPACES = 100;

export function hostName(index: number): string {
  return `host-${index}.example.com`;
}

export function placeOf(index: number): { readonly name: string; readonly namespace: string } {
  return { name: `web-${index}`, namespace: `team-${index % NAMESPACES}` };
}

export function objectsOf(index: number): readonly Manifest[] {
  const { name, namespace } = placeOf(index);
  const annotations = {
    "nginx.ingress.kubernetes.io/enable-cors": "true",
    "nginx.ingress.kubernetes.io/cors-allow-origin": "https://shop.example.com",
    "nginx.ingress.kubernetes.io/proxy-body-size": "8m",
  };
  const addresses = Array.from({ length: ENDPOINTS_EACH }, (_, pod) => `${networkOf(index)}.${pod + 1}`);
  return [
    service(name, namespace),
    slice(name, addresses, namespace),
    ingress(name, hostName(index), { namespace, annotations }),
  ];
}

/** Slice `index` with one endpoint, which is another one each `turn`. */
export function changedSlice(index: number, turn: number): Manifest {
  const { name, namespace } = placeOf(index);
  return slice(name, [addressOf(index, turn)], namespace);
}

export function addressOf(index: number, turn: number): string {
  return `${networkOf(index)}.${10 + ((turn + Math.floor(turn / INGRESSES)) % 200)}`;
}

function networkOf(index: number): string {
  return `10.${index >> 8}.${index & 255}`;
}
