/**
 * The clusters of this benchmark: N Services of one TCP port with the same number of endpoints each.
 *
 * The last Service has one endpoint only, and it is real: connections to it pass whatever the others' rules put in the way.
 */
import { HOSTS } from "../../tests/kernel/addresses.ts";
import { type KubernetesObject, NODES } from "../../tests/kernel/manifest.ts";
import { bulkClusterIp, bulkEndpoints, bulkService } from "../../tests/kernel/many-services.ts";

export interface BulkService {
  readonly name: string;
  readonly clusterIP: string;
  readonly endpoints: readonly string[];
}

export const SERVICE_PORT = 80;
export const TARGET_PORT = 8080;
/** A pod of the node under test that answers. */
export const REAL_ENDPOINT: string = HOSTS.a1.ipv4;
export const OTHER_REAL_ENDPOINT: string = HOSTS.a2.ipv4;

export function bulkServices(count: number, endpointsEach: number): readonly BulkService[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `bulk/bulk-${String(index).padStart(5, "0")}`,
    clusterIP: bulkClusterIp(index),
    endpoints: index === count - 1 ? [REAL_ENDPOINT] : bulkEndpoints(index, endpointsEach),
  }));
}

/** The same as Kubernetes objects, with the Nodes. */
export function bulkObjects(services: readonly BulkService[]): readonly KubernetesObject[] {
  return [...NODES, ...services.flatMap(({ endpoints }, index) => bulkService(index, endpoints))];
}
