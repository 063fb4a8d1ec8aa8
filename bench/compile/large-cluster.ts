/** A cluster of a size that few have: one host, two paths, CORS and a body size for each Ingress; a Service for each. */

import type { ClusterModel, EndpointSlice, KubernetesObject, ObjectName } from "../../cluster/model.ts";
import { SortedMap } from "../../cluster/sorted-map.ts";
import { ingress, modelOf, service, slice } from "../../tests/cluster-model.ts";

export function largeCluster(
  ingresses: number,
  endpointsEach: number,
): { readonly model: ClusterModel; readonly withEndpoint: (address: string) => ClusterModel } {
  const objects: KubernetesObject[] = [];
  for (let index = 0; index < ingresses; index++) {
    const namespace = `team-${index % 100}`;
    const addresses = Array.from(
      { length: endpointsEach },
      (_, pod) => `10.${index >> 8}.${index & 255}.${pod + 1}`,
    );
    objects.push(
      ingress(`${namespace}/web-${index}`, {
        rules: { [hostName(index)]: [`/ web-${index}:80`, `/api web-${index}:80`] },
        nginx: {
          "enable-cors": "true",
          "cors-allow-origin": "https://shop.example.com",
          "proxy-body-size": "8m",
        },
        created: new Date(1_600_000_000_000 + index * 1000).toISOString(),
      }),
      service(`${namespace}/web-${index}`, ["http=80>8080"]),
      slice(`${namespace}/web-${index}`, ["http=8080"], addresses),
    );
  }
  const model = asWatched(modelOf(...objects));
  return {
    model,
    withEndpoint(address) {
      const changed = [slice("team-7/web-7", ["http=8080"], [address])];
      return { ...model, endpointSlices: model.endpointSlices.with(new Map([["team-7/web-7", changed]])) };
    },
  };
}

/** With endpoints in the kind of map in which `cluster/watch/live-model.ts` hands them on. */
function asWatched(
  model: ClusterModel,
): ClusterModel & { readonly endpointSlices: SortedMap<ObjectName, readonly EndpointSlice[]> } {
  return { ...model, endpointSlices: SortedMap.from(model.endpointSlices) };
}

export function hostName(index: number): string {
  return `host-${index}.example.com`;
}
