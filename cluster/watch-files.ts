/**
 * Follows manifest files and folders, for `fairlead dev` and `fairlead agent`.
 *
 * In: the paths of `-f`. Out: a call whenever the set of files or one of them has changed and has come to rest.
 * Not here: reading them; `ManifestReader` knows by itself which ones to read again.
 *
 * The system's notices (`fs.watch` on folders, so that a file replaced by renaming, as editors and ConfigMap mounts do, is
 * noticed) only say when to look; looking is a scan of names, sizes and times. Where notices do not come (network file
 * systems, links out of the folder, no watches left) the scan happens once a second anyway, less often where it takes long.
 */

import { type FSWatcher, watch } from "node:fs";
import { dirname } from "node:path";
import { type FoundFiles, findManifestFiles } from "./manifest-files.ts";

export interface WatchOptions {
  /** Look this long after a notice, so that a burst is one change. */
  readonly debounceMilliseconds?: number;
  /** Look this often without any notice. */
  readonly pollMilliseconds?: number;
}

export interface FileWatch {
  /** Ends it; no call comes afterwards. */
  close(): void;
}

const DEBOUNCE_MILLISECONDS = 40;
const POLL_MILLISECONDS = 1000;
/** A file that was written to this recently may be half written. */
const REST_MILLISECONDS = 80;
/** A file that never comes to rest is reported all the same after this time; its reader copes. */
const LONGEST_UNREST_MILLISECONDS = 1000;
/** Polling takes at most a twentieth of one processor. */
const POLL_SHARE = 20;

/** Calls `changed` after every change from now on. The caller reads the files once itself, after this has returned. */
export async function watchManifestFiles(
  paths: readonly string[],
  changed: () => void,
  options: WatchOptions = {},
): Promise<FileWatch> {
  const watching = new Watching(paths, changed, options);
  await watching.start();
  return watching;
}

interface Snapshot {
  /** Size by path, for telling a file that has just been emptied. */
  readonly sizes: ReadonlyMap<string, bigint>;
  readonly fingerprint: string;
  /** Milliseconds since 1970 of the last change of any file. */
  readonly lastChange: number;
}

class Watching implements FileWatch {
  readonly #paths: readonly string[];
  readonly #changed: () => void;
  readonly #debounce: number;
  readonly #poll: number;
  readonly #watchers = new Map<string, FSWatcher>();
  #timer: NodeJS.Timeout | undefined;
  #scanning = false;
  /** A notice came while a scan was under way. */
  #noticed = false;
  #closed = false;
  #reported: Snapshot | undefined;
  /** When a change was first seen that has not been reported, for it has not come to rest. */
  #restlessSince: number | undefined;

  constructor(paths: readonly string[], changed: () => void, options: WatchOptions) {
    this.#paths = paths;
    this.#changed = changed;
    this.#debounce = options.debounceMilliseconds ?? DEBOUNCE_MILLISECONDS;
    this.#poll = options.pollMilliseconds ?? POLL_MILLISECONDS;
  }

  async start(): Promise<void> {
    const found = await findManifestFiles(this.#paths);
    this.#watchFolders(found);
    this.#reported = snapshotOf(found);
    this.#lookAfter(this.#poll);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #lookAfter(milliseconds: number): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#look(), milliseconds);
  }

  async #look(): Promise<void> {
    this.#scanning = true;
    this.#noticed = false;
    const began = performance.now();
    const found = await findManifestFiles(this.#paths);
    if (this.#closed) return;
    this.#watchFolders(found);
    const next = this.#report(snapshotOf(found));
    this.#scanning = false;
    const pause = Math.max(this.#poll, (performance.now() - began) * POLL_SHARE);
    this.#lookAfter(next === "again" || this.#noticed ? this.#debounce : pause);
  }

  #report(snapshot: Snapshot): "again" | "done" {
    const before = this.#reported;
    if (before?.fingerprint === snapshot.fingerprint) {
      this.#restlessSince = undefined;
      return "done";
    }
    const now = Date.now();
    this.#restlessSince ??= now;
    const patient = now - this.#restlessSince < LONGEST_UNREST_MILLISECONDS;
    if (patient && (now - snapshot.lastChange < REST_MILLISECONDS || emptied(before, snapshot)))
      return "again";
    this.#restlessSince = undefined;
    this.#reported = snapshot;
    this.#changed();
    return "done";
  }

  /** Watches every folder that was found, and those that hold the files that were named. */
  #watchFolders(found: FoundFiles): void {
    const wanted = new Set([...found.folders, ...this.#paths.map((path) => dirname(path))]);
    for (const [folder, watcher] of this.#watchers) {
      if (wanted.has(folder)) continue;
      watcher.close();
      this.#watchers.delete(folder);
    }
    for (const folder of wanted) {
      if (!this.#watchers.has(folder)) this.#watchFolder(folder);
    }
  }

  #watchFolder(folder: string): void {
    try {
      const watcher = watch(folder, { persistent: false }, () => this.#notice());
      // The folder is gone, or watches have run out: polling goes on, and finds it if it comes back.
      const drop = (): void => {
        watcher.close();
        if (this.#watchers.get(folder) === watcher) this.#watchers.delete(folder);
      };
      watcher.on("error", drop);
      watcher.on("change", (event, name) => {
        // A folder that was removed says so once, under its own name; one made again in its place needs a new watch.
        if (event === "rename" && name !== null && folder.endsWith(`/${String(name)}`)) drop();
      });
      this.#watchers.set(folder, watcher);
    } catch {
      // No watches left, or no such folder: polling covers it.
    }
  }

  #notice(): void {
    if (this.#scanning) this.#noticed = true;
    // The first notice of a burst sets the time; rest is judged by the files' own times.
    else if (this.#restlessSince === undefined && !this.#noticed) {
      this.#noticed = true;
      this.#lookAfter(this.#debounce);
    }
  }
}

function snapshotOf(found: FoundFiles): Snapshot {
  const sizes = new Map<string, bigint>();
  const lines: string[] = [];
  let lastChange = 0;
  for (const { path, stats } of found.files) {
    sizes.set(path, stats.size);
    lines.push(`${path} ${stats.dev} ${stats.ino} ${stats.size} ${stats.mtimeNs} ${stats.ctimeNs}`);
    lastChange = Math.max(lastChange, Number(stats.mtimeMs));
  }
  for (const path of found.unreadable) lines.push(`${path} unreadable`);
  return { sizes, fingerprint: lines.join("\n"), lastChange };
}

/** True where a file that had content has none: most often its writer is between truncating and writing. */
function emptied(before: Snapshot | undefined, after: Snapshot): boolean {
  for (const [path, size] of after.sizes) {
    if (size === 0n && (before?.sizes.get(path) ?? 0n) > 0n) return true;
  }
  return false;
}
