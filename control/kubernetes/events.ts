/**
 * Diagnostics as Kubernetes Events of the objects they are about, so that `kubectl describe ingress` tells.
 *
 * In: a diagnostic. Out: its Event. The name of an Event follows from what it says, so
 * another replica that takes over tells nothing twice; one that had gone away and is back counts up.
 */

import { createHash } from "node:crypto";
import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { ClusterModel, ObjectMeta, ObjectName } from "../../cluster/model.ts";
import type { KubernetesApi } from "../../cluster/watch/api.ts";
import { isConflict } from "../../cluster/watch/api-error.ts";
import { RESOURCES, type WatchedKind } from "../../cluster/watch/kinds.ts";

export interface EventToTell {
  /** Changes with what is told, and with the object: one that was made anew is told anew. */
  readonly key: string;
  readonly diagnostic: Diagnostic;
  readonly kind: WatchedKind;
  readonly meta: ObjectMeta;
}

/** The longest message that the API takes (events.k8s.io/v1, `note`). */
const MAX_MESSAGE_LENGTH = 1_024;

/** `undefined`: it cannot be told, since the object is not in the cluster. */
export function eventOf(model: ClusterModel, diagnostic: Diagnostic): EventToTell | undefined {
  const found = findObject(model, diagnostic);
  if (found === undefined) return undefined;
  const text = [found.meta.uid, diagnostic.severity, diagnostic.field, diagnostic.message].join("\n");
  return { key: createHash("sha256").update(text).digest("hex").slice(0, 16), diagnostic, ...found };
}

/** `isRepeated`: this replica had told it before, and it had gone away since. */
export async function tellEvent(
  api: KubernetesApi,
  { key, diagnostic, kind, meta }: EventToTell,
  instance: string,
  isRepeated: boolean,
): Promise<void> {
  const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  // Events of cluster-scoped objects live in `default`.
  const namespace = meta.namespace === "" ? "default" : meta.namespace;
  const name = `${meta.name.slice(0, 230)}.${key}`;
  const path = `/api/v1/namespaces/${namespace}/events`;
  try {
    await api.request({
      method: "POST",
      path,
      body: {
        apiVersion: "v1",
        kind: "Event",
        metadata: { name, namespace },
        involvedObject: {
          apiVersion: RESOURCES[kind].apiVersion,
          kind,
          name: meta.name,
          ...(meta.namespace === "" ? {} : { namespace: meta.namespace }),
          ...(meta.uid === undefined ? {} : { uid: meta.uid }),
        },
        reason: reasonOf(diagnostic),
        message: messageOf(diagnostic),
        type: diagnostic.severity === "info" ? "Normal" : "Warning",
        source: { component: "fairlead" },
        reportingComponent: "fairlead.dev/control",
        reportingInstance: instance,
        firstTimestamp: now,
        lastTimestamp: now,
        count: 1,
      },
    });
  } catch (error) {
    if (!isConflict(error)) throw error;
    if (!isRepeated) return;
    const before = (await api.request({ path: `${path}/${name}` })) as { readonly count?: number };
    await api.request({
      method: "PATCH",
      path: `${path}/${name}`,
      contentType: "application/merge-patch+json",
      body: { count: (before.count ?? 1) + 1, lastTimestamp: now },
    });
  }
}

function reasonOf({ severity, field }: Diagnostic): string {
  if (field?.endsWith(".secretName")) return "CertificateNotUsed";
  if (severity === "error") return "NotServed";
  return severity === "warning" ? "ServedWithDifference" : "Note";
}

function messageOf({ field, message }: Diagnostic): string {
  const text = field === undefined ? message : `${field}: ${message}`;
  return text.length <= MAX_MESSAGE_LENGTH ? text : `${text.slice(0, MAX_MESSAGE_LENGTH - 1)}…`;
}

function findObject(
  model: ClusterModel,
  { kind, object }: Diagnostic,
): { readonly kind: WatchedKind; readonly meta: ObjectMeta } | undefined {
  const name = object as ObjectName;
  const meta =
    kind === "Ingress"
      ? model.ingresses.get(name)?.meta
      : kind === "IngressClass"
        ? model.ingressClasses.get(object)?.meta
        : kind === "Service"
          ? model.services.get(name)?.meta
          : kind === "Secret"
            ? model.secrets.get(name)?.meta
            : kind === "ConfigMap"
              ? model.configMaps.get(name)?.meta
              : undefined;
  return meta === undefined ? undefined : { kind: kind as WatchedKind, meta };
}
