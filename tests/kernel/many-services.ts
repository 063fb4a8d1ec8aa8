/**
 * Clusters of any size: Services of one TCP port with endpoints on pods that nobody has to be.
 *
 * The last Service can be given real endpoints, so that packets tell whether the others are in their way.
 */
import type { KubernetesObject } from "./manifest.ts";

/** Ranges with room for 50 000 Services of several endpoints. */
function dotted(base: number, number: number): string {
  return `${base}.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`;
}

export function bulkClusterIp(index: number): string {
  return dotted(172, (31 << 16) + 256 + index);
}

/** A Service and its slice for each number below `count`; IPv4. */
export function manyServices(count: number, endpointsEach: number): readonly KubernetesObject[] {
  return Array.from({ length: count }, (_, index) =>
    bulkService(index, bulkEndpoints(index, endpointsEach)),
  ).flat();
}

export function bulkEndpoints(index: number, count: number): readonly string[] {
  return Array.from({ length: count }, (_, nth) => dotted(10, (1 << 16) + index * count + nth + 1));
}

export function bulkService(index: number, endpoints: readonly string[]): readonly KubernetesObject[] {
  const name = `bulk-${String(index).padStart(5, "0")}`;
  const clusterIP = bulkClusterIp(index);
  return [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace: "bulk" },
      spec: {
        type: "ClusterIP",
        clusterIP,
        clusterIPs: [clusterIP],
        ipFamilies: ["IPv4"],
        ports: [{ name: "http", protocol: "TCP", port: 80, targetPort: 8080 }],
      },
    },
    {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        name: `${name}-1`,
        namespace: "bulk",
        labels: { "kubernetes.io/service-name": name },
      },
      addressType: "IPv4",
      ports: [{ name: "http", protocol: "TCP", port: 8080 }],
      endpoints: endpoints.map((address) => ({
        addresses: [address],
        conditions: { ready: true },
        nodeName: "node-b",
      })),
    },
  ];
}
