/** What the operator chose; the same for the agent, for rendering and for tracing. */

import type { ObjectName } from "../cluster/model.ts";
import type { NatLocalDetector } from "../wasm-nat/nat.ts";
import type { BackendName } from "./backends/backend.ts";

export interface NatSettings {
  readonly node: string;
  readonly backend: BackendName;
  /**
   * What counts as coming from a Pod. Ranges are canonical; a family without a range has no detector. `nodePodCidrs`: the
   * Pod ranges of this node's object.
   */
  readonly localDetector: NatLocalDetector | { readonly kind: "nodePodCidrs" };
  readonly masqueradeAll: boolean;
  /** Forwarded packets that the connection table calls invalid are dropped (iptables, IPVS). */
  readonly dropInvalid: boolean;
  /** Bit of the packet mark that asks for masquerading: 14 is the mark 0x4000. */
  readonly masqueradeBit: number;
  /** Where ClusterIPs come from, canonical; empty: packets to addresses of no Service are nobody's business. */
  readonly serviceCidrs: readonly string[];
  /** Which addresses of the node have node ports: keywords and ranges, combined. */
  readonly nodePortAddresses: readonly NodePortAddresses[];
  readonly ipvs?: IpvsSettings;
  /** ConfigMaps of exposed ports, in the format of ingress-nginx. */
  readonly tcpServices?: ObjectName | undefined;
  readonly udpServices?: ObjectName | undefined;
}

/** Only the IPVS backend looks at them. */
export interface IpvsSettings {
  /** For Services that name none. */
  readonly scheduler?: string | undefined;
  /** Virtual servers and addresses here belong to somebody else; canonical. */
  readonly excludedCidrs: readonly string[];
  /** Answers ARP only for addresses of the link that was asked on: virtual addresses are no link's to tell (MetalLB needs it). */
  readonly strictArp: boolean;
}

/** A range is canonical. */
export type NodePortAddresses = "primary" | "all" | { readonly cidr: string };

/** kube-proxy's own defaults (KEP-3866 chose the narrower one for nftables). */
export const DEFAULT_NODE_PORT_ADDRESSES: Readonly<Record<BackendName, NodePortAddresses>> = {
  nftables: "primary",
  iptables: "all",
  ipvs: "all",
};

/** kube-proxy's: other programs on a node (CNI plug-ins) know to leave it alone. */
export const DEFAULT_MASQUERADE_BIT = 14;
