/**
 * The cluster as its API server tells it, no more of it than a node needs: Services that are ours, their EndpointSlices,
 * this Node, the ConfigMaps that expose ports, and the node's own Pods where somebody asks for them.
 *
 * In: a connection. Out: states, the first one once every first list is complete; Pods and ConfigMaps that the API server
 * refuses, or does not give for some seconds, join when they come.
 */

import type { ObjectName } from "../../cluster/model.ts";
import type { KubernetesApi } from "../../cluster/watch/api.ts";
import { watchCluster } from "../../cluster/watch/cluster-watch.ts";
import type { WatchedKind } from "../../cluster/watch/kinds.ts";
import type { ReflectorNote } from "../../cluster/watch/reflector.ts";
import { HEADLESS, SERVICE_PROXY_NAME } from "../proxied-service.ts";
import { keptForNode } from "./kept-for-node.ts";
import type { ClusterSource, ClusterState } from "./source.ts";

export interface KubernetesSourceOptions {
  readonly api: KubernetesApi;
  readonly node: string;
  /** ConfigMaps of exposed ports. */
  readonly configMaps: readonly ObjectName[];
  /** The Pods of this node too. */
  readonly pods: boolean;
  readonly onState: (state: ClusterState) => void;
  readonly onNote?: (kind: WatchedKind, note: ReflectorNote) => void;
}

/** What is none of ours does not even travel here; slices carry the labels of their Services. */
const OURS = `!${SERVICE_PROXY_NAME},!${HEADLESS}`;
/** After a first change the next state comes so much later at the soonest; the sync loop has a pace of its own. */
const DISTANCE_MS = 15;

/** Services do not need them. */
export const OPTIONAL_KINDS: ReadonlySet<WatchedKind> = new Set(["Pod", "ConfigMap"]);

export function followKubernetes(options: KubernetesSourceOptions): ClusterSource {
  const configMaps = new Set(options.configMaps);
  const watch = watchCluster({
    api: options.api,
    kinds: ["Service", "EndpointSlice", "Node", ...(options.pods ? (["Pod"] as const) : [])],
    labelSelectors: {
      Service: OURS,
      EndpointSlice: OURS,
    },
    fieldSelectors: { Node: `metadata.name=${options.node}`, Pod: `spec.nodeName=${options.node}` },
    optional: [...OPTIONAL_KINDS],
    references: () => ({ secrets: new Set(), configMaps }),
    keep: keptForNode,
    distanceMs: DISTANCE_MS,
    onSnapshot: options.onState,
    onNote: options.onNote,
  });
  return {
    status: () => watch.status().map(({ kind, trouble }) => ({ kind, isConnected: trouble === undefined })),
    close: watch.close,
  };
}
