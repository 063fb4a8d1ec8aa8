/**
 * Rule sets of kube-proxy's shape for the clusters of this benchmark, so that there is something to be faster than: the tests'
 * generator (`tests/kernel/kube-proxy-rules.ts`), fed with ClusterIPs of IPv4, which is all that the benchmark loads.
 */
import {
  kubeProxyIptables,
  kubeProxyIptablesChange,
  kubeProxyNftables,
  kubeProxyNftablesChange,
  leastIptablesChange,
  type ProxiedEndpoint,
  type ProxiedPort,
} from "../../tests/kernel/kube-proxy-rules.ts";
import { type BulkService, SERVICE_PORT, TARGET_PORT } from "./cluster.ts";

const NODE = { family: "ipv4" } as const;

/** The whole of all tables, as at kube-proxy's start. Comments are left out, as it does above 1 000 endpoints. */
export function iptablesShape(services: readonly BulkService[]): string {
  return kubeProxyIptables(services.map(portOf), NODE);
}

/** What kube-proxy writes when one Service's endpoints change; the chains of `gone` are deleted. */
export function iptablesPartial(
  services: readonly BulkService[],
  changed: BulkService,
  gone: readonly string[],
): string {
  return kubeProxyIptablesChange(services.map(portOf), portOf(changed), gone.map(endpointOf), NODE);
}

/** The least that any program could write for the same change. */
export function iptablesLeast(changed: BulkService, gone: readonly string[]): string {
  return leastIptablesChange(portOf(changed), gone.map(endpointOf), NODE);
}

/** One transaction with everything. */
export function nftablesShape(services: readonly BulkService[]): string {
  return kubeProxyNftables(services.map(portOf), NODE);
}

/** What changes with one endpoint. */
export function nftablesChange(changed: BulkService, gone: readonly string[]): string {
  return kubeProxyNftablesChange(portOf(changed), gone.map(endpointOf), NODE);
}

function portOf({ name, clusterIP, endpoints }: BulkService): ProxiedPort {
  return {
    service: name,
    name: "http",
    protocol: "tcp",
    clusterIp: clusterIP,
    port: SERVICE_PORT,
    endpoints: endpoints.map(endpointOf),
  };
}

function endpointOf(address: string): ProxiedEndpoint {
  return { address, port: TARGET_PORT };
}
