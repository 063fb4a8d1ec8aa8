/** What the operator chose; the same for the agent, for rendering and for tracing. */

import type { ObjectName } from "../cluster/model.ts";
import type { BackendName } from "./backends/backend.ts";

export interface NatSettings {
  readonly node: string;
  readonly backend: BackendName;
  /** Where Pods have their addresses, canonical. A family without a range has no detector of local traffic. */
  readonly clusterCidrs: readonly string[];
  readonly masqueradeAll: boolean;
  /** Which addresses of the node have node ports: keywords and ranges, combined. */
  readonly nodePortAddresses: readonly NodePortAddresses[];
  /** ConfigMaps of exposed ports, in the format of ingress-nginx. */
  readonly tcpServices?: ObjectName | undefined;
  readonly udpServices?: ObjectName | undefined;
}

/** A range is canonical. */
export type NodePortAddresses = "primary" | "all" | { readonly cidr: string };

/** kube-proxy's own defaults (KEP-3866 chose the narrower one for nftables). */
export const DEFAULT_NODE_PORT_ADDRESSES: Readonly<Record<BackendName, NodePortAddresses>> = {
  nftables: "primary",
  iptables: "all",
  ipvs: "all",
};
