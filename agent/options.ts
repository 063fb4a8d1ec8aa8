/** What the operator decided about an agent, and who is told what. */

import type { OutboundSettings } from "./outbound/outbound.ts";
import type { NatSettings } from "./settings.ts";
import type { SourceSettings } from "./sources/open.ts";
import type { ListenAddress } from "./status-servers.ts";
import type { ConntrackSettings } from "./sysctls.ts";

export interface AgentOptions {
  readonly settings: NatSettings;
  readonly source: SourceSettings;
  readonly conntrack: ConntrackSettings;
  /** What leaves the cluster, and by which address; absent: nobody's business. */
  readonly outbound?: OutboundSettings | undefined;
  /** Host ports of Pods are rules of ours, not of a CNI plug-in. */
  readonly hostPorts: boolean;
  readonly healthListen?: ListenAddress | undefined;
  readonly metricsListen?: ListenAddress | undefined;
  /** `/proc/sys`, or where the node's is mounted. */
  readonly procSys: string;
  /** One line for the operator. */
  readonly say: (line: string) => void;
}

export interface DaemonOptions extends AgentOptions {
  /** The rules are in the kernel for the first time. */
  readonly onReady: () => void;
  readonly stop: AbortSignal;
}
