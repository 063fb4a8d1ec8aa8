/**
 * Clusters whose state is pushed: `fairlead push`, or `kubectl get -o json` sent with any HTTP client.
 *
 * In: a text with all objects of a cluster. Out: a state, whole or not at all. A text that cannot be read to
 * its end changes nothing, since what it lacks would be taken for deleted.
 */

import { buildClusterModel } from "../cluster/build.ts";
import type { Diagnostic } from "../cluster/diagnostic.ts";
import { readManifestText } from "../cluster/files.ts";
import type { ClusterState } from "./cluster-source.ts";

export type PushReading =
  | { readonly kind: "state"; readonly state: ClusterState }
  | { readonly kind: "unreadable"; readonly diagnostics: readonly Diagnostic[] }
  /** No object that counts: a mistake far more often than a wish. */
  | { readonly kind: "empty" };

export function readPushedState(cluster: string, text: string, receivedAtMs: number): PushReading {
  const { objects, diagnostics } = readManifestText(text, `push of ${cluster}`);
  // Problems of the text itself have no object to name; those of an object cost that object only.
  const broken = diagnostics.filter(({ kind, severity }) => kind === "File" && severity === "error");
  if (broken.length > 0) return { kind: "unreadable", diagnostics: broken };
  if (objects.length === 0) return { kind: "empty" };
  const built = buildClusterModel(objects);
  return {
    kind: "state",
    state: { model: built.model, diagnostics: [...diagnostics, ...built.diagnostics], receivedAtMs },
  };
}
