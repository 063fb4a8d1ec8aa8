/**
 * Finds the manifest files that `-f PATH` names.
 *
 * In: files and folders, as given. Out: files in the order in which they are read (paths as given, folders by name), and
 * what could not be looked into. A file that is named itself is read whatever it is called; in folders, at any depth,
 * `.yaml`, `.yml` and `.json` count, and names that begin with a dot do not (`.git`; the `..data` of a mounted ConfigMap).
 * Symbolic links are followed, every file and folder at most once, so a loop of links ends.
 */

import { type BigIntStats, readdirSync, statSync } from "node:fs";
import { extname, join } from "node:path";
import type { Diagnostic } from "./diagnostic.ts";
import { Turns } from "./turns.ts";

export interface ManifestFile {
  /** Under the path that was given, so that people recognise it. */
  readonly path: string;
  readonly stats: BigIntStats;
}

export interface FoundFiles {
  readonly files: readonly ManifestFile[];
  /** Folders that were looked into; what to watch for new files. */
  readonly folders: readonly string[];
  /** Paths, given or found, that are missing or unreadable: nothing is known of what lies there. */
  readonly unreadable: readonly string[];
  readonly diagnostics: readonly Diagnostic[];
}

const EXTENSIONS: ReadonlySet<string> = new Set([".yaml", ".yml", ".json"]);
/** A folder with more is not one of manifests. */
const MAX_FILES = 100_000;

export async function findManifestFiles(paths: readonly string[]): Promise<FoundFiles> {
  const search = new Search();
  for (const path of paths) await search.given(path);
  return search;
}

class Search implements FoundFiles {
  readonly files: ManifestFile[] = [];
  readonly folders: string[] = [];
  readonly unreadable: string[] = [];
  readonly diagnostics: Diagnostic[] = [];
  /** `device:inode` of what was found already. */
  readonly #seen = new Set<string>();
  readonly #turns = new Turns();

  async given(path: string): Promise<void> {
    const stats = this.#stat(path);
    if (stats === undefined) return;
    if (!stats.isDirectory()) {
      this.#file(path, stats);
      return;
    }
    const before = this.files.length + this.unreadable.length;
    await this.#folder(path, stats);
    if (this.files.length + this.unreadable.length === before) {
      this.#tell("warning", path, "the folder holds no .yaml, .yml or .json file");
    }
  }

  async #folder(path: string, stats: BigIntStats): Promise<void> {
    if (!this.#isNew(stats)) return;
    this.folders.push(path);
    let names: string[];
    try {
      names = readdirSync(path);
    } catch (error) {
      this.#unreadable(path, error);
      return;
    }
    for (const name of names.sort()) {
      if (this.#turns.isOver()) await this.#turns.next();
      if (name.startsWith(".")) continue;
      if (this.files.length >= MAX_FILES) {
        this.#tell("error", path, `more than ${MAX_FILES} files were found; the rest is not read`);
        return;
      }
      const entry = join(path, name);
      const entryStats = this.#stat(entry);
      if (entryStats?.isDirectory() === true) await this.#folder(entry, entryStats);
      // A pipe or a device in a folder would never end; only a person can mean one.
      else if (entryStats?.isFile() === true && EXTENSIONS.has(extname(name).toLowerCase()))
        this.#file(entry, entryStats);
    }
  }

  #file(path: string, stats: BigIntStats): void {
    if (this.#isNew(stats)) this.files.push({ path, stats });
  }

  #isNew(stats: BigIntStats): boolean {
    const identity = `${stats.dev}:${stats.ino}`;
    if (this.#seen.has(identity)) return false;
    this.#seen.add(identity);
    return true;
  }

  #stat(path: string): BigIntStats | undefined {
    try {
      return statSync(path, { bigint: true });
    } catch (error) {
      this.#unreadable(path, error);
      return undefined;
    }
  }

  #unreadable(path: string, error: unknown): void {
    this.unreadable.push(path);
    this.#tell("error", path, `${reasonOfSystemError(error)}; nothing of it is read`);
  }

  #tell(severity: Diagnostic["severity"], path: string, message: string): void {
    this.diagnostics.push({ severity, kind: "File", object: path, message });
  }
}

/** What the system says, in words: `it does not exist`. */
export function reasonOfSystemError(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  switch (code) {
    case "ENOENT":
      return "it does not exist";
    case "EACCES":
    case "EPERM":
      return "reading it is not permitted";
    case "ELOOP":
      return "its symbolic links go in a circle";
    case "ENOTDIR":
      return "a part of its path is no folder";
    case "ENAMETOOLONG":
      return "its path is too long";
    default:
      return `it cannot be read (${code || String(error)})`;
  }
}
