/**
 * Kubernetes Events about what an operator has to know of a node: rules that the kernel does not take, health checks that
 * cannot be listened to.
 *
 * In: what happened to which object. Out: Events, one for each message in ten minutes, and never a failure of the agent:
 * they are a courtesy, and the rights to write them may be missing. Not here: what is normal (metrics tell it).
 */

import { createHash } from "node:crypto";
import type { ObjectName } from "../cluster/model.ts";
import type { KubernetesApi } from "../cluster/watch/api.ts";

export interface NodeEvent {
  readonly about:
    | { readonly kind: "Node"; readonly name: string }
    | { readonly kind: "Service"; readonly name: ObjectName; readonly uid?: string | undefined };
  readonly reason: "RulesNotApplied" | "FailedToStartServiceHealthcheck" | "ResourceNotFollowed";
  /** One sentence. */
  readonly message: string;
}

export interface EventTeller {
  /** Returns at once. */
  readonly tell: (event: NodeEvent) => void;
}

const SILENCE_MS = 600_000;
/** The longest message that the API takes (events.k8s.io/v1, `note`). */
const MAX_MESSAGE_LENGTH = 1_024;
/** Different messages within the silence; more is a storm, and the log has it. */
const MOST_REMEMBERED = 500;

/** `node`: of this agent, told as the source of each Event. */
export function createEventTeller(
  api: Pick<KubernetesApi, "request">,
  node: string,
  nowMs: () => number = Date.now,
): EventTeller {
  const toldAtMs = new Map<string, number>();
  return {
    tell: (event) => {
      const now = nowMs();
      for (const [key, atMs] of toldAtMs) if (now - atMs >= SILENCE_MS) toldAtMs.delete(key);
      const key = createHash("sha256").update(JSON.stringify(event)).digest("hex").slice(0, 16);
      if (toldAtMs.has(key) || toldAtMs.size >= MOST_REMEMBERED) return;
      toldAtMs.set(key, now);
      const body = eventBody(event, node, key, now);
      const path = `/api/v1/namespaces/${body.metadata.namespace}/events`;
      api.request({ method: "POST", path, body }).catch(() => {
        // Told again when it happens again, instead of never.
        toldAtMs.delete(key);
      });
    },
  };
}

function eventBody({ about, reason, message }: NodeEvent, node: string, key: string, nowMs: number) {
  const [namespace, name] =
    about.kind === "Node" ? ["default", about.name] : (about.name.split("/") as [string, string]);
  const time = new Date(nowMs).toISOString().replace(/\.\d+Z$/, "Z");
  // As the kubelet and kube-proxy do: `kubectl describe node` looks for the name in this place.
  const uid = about.kind === "Node" ? about.name : about.uid;
  return {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name: `${name.slice(0, 220)}.${nowMs.toString(16)}.${key}`, namespace },
    involvedObject: {
      apiVersion: "v1",
      kind: about.kind,
      name,
      ...(about.kind === "Node" ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
    },
    reason,
    message: message.slice(0, MAX_MESSAGE_LENGTH),
    type: "Warning",
    source: { component: "fairlead-agent", host: node },
    reportingComponent: "fairlead.dev/agent",
    reportingInstance: node,
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  } as const;
}
