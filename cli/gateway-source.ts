/**
 * Where `fairlead gateway follow` learns of a cluster's objects: manifests that change, or an API server.
 *
 * In: which ones, and what is needed of them. Out: models, the first one once it is complete.
 */

import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { ClusterModel, ObjectName } from "../cluster/model.ts";
import type { ApiAccess } from "../cluster/watch/api.ts";
import type { WatchedKind } from "../cluster/watch/kinds.ts";
import { CommandFailure } from "./failure.ts";

export type GatewaySource =
  | { readonly kind: "files"; readonly paths: readonly string[] }
  | {
      readonly kind: "kubernetes";
      readonly access: ApiAccess;
      readonly namespaces?: readonly string[] | undefined;
    };

export interface Interest {
  /** Whether Ingresses matter, or Services alone. */
  readonly ingresses: boolean;
  readonly configMaps: readonly ObjectName[];
}

export interface GatewayModel {
  readonly model: ClusterModel;
  readonly diagnostics: readonly Diagnostic[];
}

export interface OpenGatewaySource {
  /** One sentence where the source is cut off and the newest model may be old. */
  readonly problem: () => string | undefined;
  readonly close: () => void;
}

/** Calls `onModel` until it is closed. Throws a `CommandFailure` where there is no cluster to talk to. */
export async function openGatewaySource(
  source: GatewaySource,
  interest: Interest,
  onModel: (model: GatewayModel) => void,
  say: (line: string) => void,
): Promise<OpenGatewaySource> {
  if (source.kind === "files") return await openFiles(source.paths, onModel);
  const [{ connectKubernetes }, { watchCluster }] = await Promise.all([
    import("../cluster/watch/api.ts"),
    import("../cluster/watch/cluster-watch.ts"),
  ]);
  const api = connected(() => connectKubernetes(source.access));
  const references = { secrets: new Set<ObjectName>(), configMaps: new Set(interest.configMaps) };
  const watch = watchCluster({
    api,
    kinds: [...(interest.ingresses ? INGRESS_KINDS : []), "Service", "EndpointSlice"],
    namespaces: source.namespaces,
    references: () => references,
    onSnapshot: onModel,
    onNote: (kind: WatchedKind, note) => {
      if (note.kind === "disconnected") say(`${kind}s cannot be followed: ${note.message}.`);
    },
  });
  return {
    problem: watch.problem,
    close: () => {
      watch.close();
      api.close();
    },
  };
}

const INGRESS_KINDS = ["Ingress", "IngressClass"] as const;

/** A reading without any object (the folder is gone, a mount is empty) is told with the model from before. */
async function openFiles(
  paths: readonly string[],
  onModel: (model: GatewayModel) => void,
): Promise<OpenGatewaySource> {
  const { followFiles } = await import("../cluster/follow-files.ts");
  let last: ClusterModel | undefined;
  return await followFiles(paths, (reading) => {
    if (reading.kind === "state") last = reading.state.model;
    const { diagnostics } = reading.kind === "state" ? reading.state : reading;
    if (last !== undefined) onModel({ model: last, diagnostics });
  });
}

function connected<T>(connect: () => T): T {
  try {
    return connect();
  } catch (error) {
    throw new CommandFailure(error instanceof Error ? error.message : String(error));
  }
}
