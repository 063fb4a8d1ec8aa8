/**
 * A node as a kube-proxy of mode iptables or nftables has left it when it was stopped. In: Services of policy Cluster without
 * affinity and source ranges. Out: its rules in node-a, of both families. (Mode IPVS is `kube-proxy-ipvs.ts`.)
 */
import { FAMILIES, type Family, HOSTS } from "./addresses.ts";
import { clusterIpOf, externalIpOf, portsOf, vipOf } from "./destinations.ts";
import {
  kubeProxyIptables,
  kubeProxyNftables,
  type ProxiedNode,
  type ProxiedPort,
} from "./kube-proxy-rules.ts";
import type { Lab } from "./lab.ts";
import { endpointHost } from "./manifest.ts";
import type { TestService } from "./services.ts";

export type KubeProxyMode = "iptables-nft" | "iptables-legacy" | "nftables";

export async function programAsKubeProxy(
  lab: Lab,
  mode: KubeProxyMode,
  services: readonly TestService[],
): Promise<void> {
  for (const family of FAMILIES) {
    const ports = services.flatMap((service) => proxiedPorts(service, family));
    const proxied: ProxiedNode = { family, nodePortIps: [HOSTS["node-a"][family]], comments: true };
    if (mode === "nftables") {
      await lab.namespaces.must("node-a", "nft", ["-f", "-"], { input: kubeProxyNftables(ports, proxied) });
    } else {
      const program = `${mode.replace("iptables", family === "ipv4" ? "iptables" : "ip6tables")}-restore`;
      const input = kubeProxyIptables(ports, proxied);
      await lab.namespaces.must("node-a", program, ["--noflush"], { input });
    }
  }
}

function proxiedPorts(service: TestService, family: Family): readonly ProxiedPort[] {
  const endpoints = service.endpoints.map((text) => HOSTS[endpointHost(text)][family]);
  const outsideIps = [
    ...(service.external === true ? [externalIpOf(service)[family]] : []),
    ...(service.ingress === "vip" ? [vipOf(service)[family]] : []),
  ];
  return portsOf(service).map(({ name, protocol, port, targetPort, nodePort }) => ({
    service: `default/${service.name}`,
    name,
    protocol,
    clusterIp: clusterIpOf(service)[family],
    port,
    nodePort,
    outsideIps,
    endpoints: endpoints.map((address) => ({ address, port: targetPort })),
  }));
}
