/** Opens the source that the operator named: manifest files, or the API server of the cluster. */

import { type Diagnostic, formatDiagnostic } from "../../cluster/diagnostic.ts";
import { createFileReader, followFiles } from "../../cluster/follow-files.ts";
import type { ObjectName } from "../../cluster/model.ts";
import type { ApiAccess } from "../../cluster/watch/api.ts";
import { createEventTeller, type EventTeller } from "../events.ts";

import type { ClusterSource, ClusterState } from "./source.ts";

export type SourceSettings =
  | { readonly kind: "files"; readonly paths: readonly string[] }
  | { readonly kind: "kubernetes"; readonly access: ApiAccess };

export interface SourceListener {
  readonly onState: (state: ClusterState) => void;
  /** Nothing could be read: what is known stays. */
  readonly onNothing: (diagnostics: readonly Diagnostic[]) => void;
  /** One sentence about the connection. */
  readonly onNote: (line: string) => void;
}

/** What of the cluster is wanted. */
export interface Interest {
  readonly node: string;
  readonly configMaps: readonly ObjectName[];
  /** The Pods of this node too. */
  readonly pods: boolean;
}

/** A source, and a way to tell the cluster something where it is one that listens. */
export type OpenSource = ClusterSource & EventTeller;

/** Tells states until it is closed. Rejects where there is no cluster to talk to. */
export async function openSource(
  source: SourceSettings,
  interest: Interest,
  listener: SourceListener,
): Promise<OpenSource> {
  switch (source.kind) {
    case "files": {
      const followed = await followFiles(source.paths, (reading) => {
        if (reading.kind === "state") listener.onState(reading.state);
        else listener.onNothing(reading.diagnostics);
      });
      return { close: followed.close, status: () => [], tell: () => {} };
    }
    case "kubernetes": {
      // Loaded where it is needed: the client takes longer to load than a node of files takes to program.
      const { connectKubernetes } = await import("../../cluster/watch/api.ts");
      const { followKubernetes, OPTIONAL_KINDS } = await import("./kubernetes.ts");
      const api = connectKubernetes(source.access);
      const { tell } = createEventTeller(api, interest.node);
      const followed = followKubernetes({
        api,
        ...interest,
        onState: listener.onState,
        onNote: (kind, note) => {
          if (note.kind === "connected") listener.onNote(`${kind}s are followed again.`);
          if (note.kind !== "disconnected") return;
          const waits = note.isRefused && OPTIONAL_KINDS.has(kind);
          const message = `${kind}s cannot be followed: ${note.message}${waits ? "; what needs them waits." : ""}`;
          listener.onNote(message);
          if (waits)
            tell({ about: { kind: "Node", name: interest.node }, reason: "ResourceNotFollowed", message });
        },
      });
      return {
        status: followed.status,
        tell,
        close: () => {
          followed.close();
          api.close();
        },
      };
    }
    default:
      return source satisfies never;
  }
}

/** The present state, whole. Rejects with one sentence where nothing could be read, or the time is over. */
export async function readOnce(
  source: SourceSettings,
  interest: Interest,
  say: (line: string) => void,
  timeoutMs = 60_000,
): Promise<ClusterState> {
  if (source.kind === "files") {
    const reading = await createFileReader(source.paths).read();
    if (reading.kind === "state") return reading.state;
    for (const diagnostic of reading.diagnostics) say(formatDiagnostic(diagnostic));
    throw new Error(nothingRead(source));
  }
  let opened: ClusterSource | undefined;
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<ClusterState>((resolve, reject) => {
      timer = setTimeout(
        () => reject(new Error(`the cluster's first lists did not come within ${timeoutMs / 1000} s.`)),
        timeoutMs,
      );
      openSource(source, interest, { onState: resolve, onNothing: () => {}, onNote: say }).then((open) => {
        opened = open;
      }, reject);
    });
  } finally {
    clearTimeout(timer);
    opened?.close();
  }
}

export function nothingRead({ paths }: Extract<SourceSettings, { readonly kind: "files" }>): string {
  return `no object could be read from ${paths.join(", ")}; the rules stay as they are.`;
}
