/**
 * The cluster as manifest files tell it (`-f`): read once, or followed.
 *
 * In: paths. Out: states. A reading that finds no object at all (the folder is gone, a mount is empty, everything is
 * broken) is no state: it would take everything away, and nobody deletes a cluster by a typing error.
 */

import { buildClusterModel } from "./build.ts";
import type { Diagnostic } from "./diagnostic.ts";
import { ManifestReader } from "./files.ts";
import type { ClusterModel } from "./model.ts";
import { watchManifestFiles } from "./watch-files.ts";

export interface FileStateReader {
  /** The present state, or what is wrong where nothing could be read. Calls must not overlap. */
  readonly read: () => Promise<FileReading>;
}

export interface FileState {
  readonly model: ClusterModel;
  readonly diagnostics: readonly Diagnostic[];
  /** When the reading began; milliseconds since 1970. */
  readonly receivedAtMs: number;
}

export interface FollowedFiles {
  /** One sentence where nothing can be read any more and the newest state may be old. */
  readonly problem: () => string | undefined;
  readonly close: () => void;
}

export type FileReading =
  | { readonly kind: "state"; readonly state: FileState }
  | { readonly kind: "nothing"; readonly diagnostics: readonly Diagnostic[] };

export function createFileReader(paths: readonly string[]): FileStateReader {
  const reader = new ManifestReader(paths);
  return {
    read: async () => {
      const receivedAtMs = Date.now();
      const read = await reader.read();
      if (read.objects.length === 0) return { kind: "nothing", diagnostics: read.diagnostics };
      const { model, diagnostics } = buildClusterModel(read.objects);
      return {
        kind: "state",
        state: { model, diagnostics: [...read.diagnostics, ...diagnostics], receivedAtMs },
      };
    },
  };
}

/** Tells the first state, and one after each change that has come to rest. */
export async function followFiles(
  paths: readonly string[],
  onReading: (reading: FileReading) => void,
): Promise<FollowedFiles> {
  const reader = createFileReader(paths);
  let closed = false;
  let problem: string | undefined;
  // Readings one after another: the reader remembers what it has read.
  let reading: Promise<void> = Promise.resolve();
  const read = async (): Promise<void> => {
    if (closed) return;
    const found = await reader.read();
    problem =
      found.kind === "state"
        ? undefined
        : `No object could be read from ${paths.join(", ")}; what was read before stays.`;
    if (!closed) onReading(found);
  };
  const watch = await watchManifestFiles(paths, () => {
    reading = reading.then(read);
  });
  reading = reading.then(read);
  await reading;
  return {
    problem: () => problem,
    close: () => {
      closed = true;
      watch.close();
    },
  };
}
