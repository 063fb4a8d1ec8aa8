/**
 * Manifests in files, as objects of the model.
 *
 * In: paths of files and folders, or a text. Out: objects, the last one of a kind and name winning as with
 * `kubectl apply`, and diagnostics that name file and line. A broken document costs only itself.
 * Not here: which files there are (`manifest-files.ts`), when they change (`watch-files.ts`).
 *
 * A `ManifestReader` reads again only what changed (an object of a document that stays is the very same object as before,
 * wherever in its file it stands now: the compiler goes by that), and keeps what it knew of what it cannot read any more: while a file
 * is broken, or a path that was given is gone, the objects that it held and that no readable document of it defines stay
 * as they were. A file that is deleted from a folder, or loses a document while all of it can be read, loses its objects.
 */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { open } from "node:fs/promises";
import { extname } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { Diagnostic } from "./diagnostic.ts";
import { findManifestFiles, type ManifestFile, reasonOfSystemError } from "./manifest-files.ts";
import type { KubernetesObject } from "./model.ts";
import { parseObject } from "./objects/parse.ts";
import { Turns } from "./turns.ts";
import type { KnownDocument, ManifestDocument } from "./yaml/document.ts";
import { type DocumentOptions, readDocuments, readUnknownDocuments } from "./yaml/documents.ts";

/** Larger files are refused: a cluster of 100 000 endpoints takes a fifth of it. */
export const MAX_FILE_BYTES = 128 * 1024 * 1024;
/** What one file may say; a million broken documents need no million sentences. */
const MAX_DIAGNOSTICS_PER_FILE = 1000;
/** A file that was written this shortly before it was read may change again within one tick of its clock. */
const CLOCK_TICK_MILLISECONDS = 50;

export interface Manifests {
  readonly objects: readonly KubernetesObject[];
  readonly diagnostics: readonly Diagnostic[];
}

/** Reads files and folders once. */
export async function readManifests(paths: readonly string[]): Promise<Manifests> {
  return await new ManifestReader(paths).read();
}

/** Reads a text: standard input, a request body. `name` stands for the file in diagnostics. */
export function readManifestText(text: string, name: string, options: DocumentOptions = {}): Manifests {
  const content = new FileContent(name);
  for (const document of readDocuments(text, options)) content.take(document);
  return merge([content.finish()]);
}

/** An object and where it was read. */
interface LocatedObject {
  readonly object: KubernetesObject;
  readonly origin: string;
}

/** By their text: the objects of documents about which there was nothing to say. */
type KnownDocuments = ReadonlyMap<string, readonly KubernetesObject[]>;

interface ReadFile {
  readonly objects: readonly LocatedObject[];
  readonly diagnostics: readonly Diagnostic[];
  readonly known: KnownDocuments;
  /** Some document could not be read, so what the file no longer shows may still be meant. */
  readonly broken: boolean;
}

interface CachedFile {
  readonly signature: string;
  /** The file changed so shortly before it was read that its signature proves nothing. */
  readonly racy: boolean;
  readonly content: ReadFile;
}

export class ManifestReader {
  readonly #paths: readonly string[];
  readonly #turns = new Turns();
  #cache: ReadonlyMap<string, CachedFile> = new Map();

  constructor(paths: readonly string[]) {
    this.#paths = paths;
  }

  /** The present state of the files. Calls must not overlap. */
  async read(): Promise<Manifests> {
    const found = await findManifestFiles(this.#paths);
    const cache = new Map<string, CachedFile>();
    for (const file of found.files) cache.set(file.path, await this.#readFile(file));
    const contents = [...cache.values()].map((file) => file.content);
    for (const [path, file] of this.#cache) {
      if (cache.has(path) || !found.unreadable.some((gone) => path === gone || path.startsWith(`${gone}/`)))
        continue;
      if (file.content.objects.length === 0) continue;
      const content = withStayingNote(path, file.content.objects);
      // No signature: whatever is there when the path comes back is read.
      cache.set(path, { signature: "", racy: true, content });
      contents.push(content);
    }
    this.#cache = cache;
    const merged = merge(contents);
    return { objects: merged.objects, diagnostics: [...found.diagnostics, ...merged.diagnostics] };
  }

  async #readFile(file: ManifestFile): Promise<CachedFile> {
    const cached = this.#cache.get(file.path);
    const signature = signatureOf(file.stats);
    if (cached?.signature === signature && !cached.racy) return cached;
    const content = await readFileContent(file, cached?.content.known ?? new Map(), this.#turns);
    const racy = Date.now() - Number(file.stats.mtimeMs) < CLOCK_TICK_MILLISECONDS || !file.stats.isFile();
    return {
      signature,
      racy,
      content: content.broken ? withStaying(file.path, content, cached?.content.objects ?? []) : content,
    };
  }
}

function signatureOf(stats: ManifestFile["stats"]): string {
  return `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}:${stats.ctimeNs}`;
}

/** A broken file, with those of its objects before that it does not define any more. */
function withStaying(path: string, content: ReadFile, before: readonly LocatedObject[]): ReadFile {
  const defined = new Set(content.objects.map(({ object }) => keyOf(object)));
  const staying = before.filter(({ object }) => !defined.has(keyOf(object)));
  return staying.length === 0 ? content : withStayingNote(path, staying, content);
}

function withStayingNote(
  path: string,
  staying: readonly LocatedObject[],
  present: ReadFile = { objects: [], diagnostics: [], known: new Map(), broken: true },
): ReadFile {
  const names = staying.map(({ object }) => keyOf(object));
  const listed =
    names.length > 5 ? `${names.slice(0, 5).join(", ")} and ${names.length - 5} more` : names.join(", ");
  const note: Diagnostic = {
    severity: "warning",
    kind: "File",
    object: path,
    message: `until it can be read again, these stay as they were: ${listed}`,
  };
  const { objects, diagnostics, known } = present;
  return { objects: [...staying, ...objects], diagnostics: [...diagnostics, note], known, broken: true };
}

/** Names an object for people and for finding it again: `Ingress shop/web`. Slices of old Endpoints go by their Service. */
function keyOf(object: KubernetesObject): string {
  const { namespace } = object.meta;
  if (object.kind === "EndpointSlice" && object.source === "Endpoints")
    return `Endpoints ${namespace}/${object.serviceName}`;
  return namespace === ""
    ? `${object.kind} ${object.meta.name}`
    : `${object.kind} ${namespace}/${object.meta.name}`;
}

/** All files together: of two objects with one kind and name the last one read counts. */
function merge(files: readonly ReadFile[]): Manifests {
  // One Endpoints object is several slices, and a list may hold an object twice; nearly always it is one.
  const byKey = new Map<string, LocatedObject | LocatedObject[]>();
  const diagnostics: Diagnostic[] = [];
  for (const file of files) {
    for (const diagnostic of file.diagnostics) diagnostics.push(diagnostic);
    for (const located of file.objects) {
      const { object, origin } = located;
      const key = keyOf(object);
      const known = byKey.get(key);
      if (known === undefined) {
        byKey.set(key, located);
        continue;
      }
      const earlier = Array.isArray(known) ? known : [known];
      const origins = earlier[0]?.origin ?? "";
      if (origins === origin) {
        earlier.push(located);
        byKey.set(key, earlier);
      } else {
        const space = key.indexOf(" ");
        diagnostics.push({
          severity: "warning",
          kind: key.slice(0, space),
          object: key.slice(space + 1),
          origin,
          message: `it is defined twice, in ${origins} and in ${origin}; the latter counts`,
        });
        // To the end, as if the earlier one had never been.
        byKey.delete(key);
        byKey.set(key, located);
      }
    }
  }
  const objects: KubernetesObject[] = [];
  for (const entry of byKey.values()) {
    if (Array.isArray(entry)) for (const { object } of entry) objects.push(object);
    else objects.push(entry.object);
  }
  return { objects, diagnostics };
}

/** Gathers what the documents of one file hold. */
class FileContent {
  readonly #name: string;
  readonly #knownBefore: KnownDocuments;
  readonly #known = new Map<string, readonly KubernetesObject[]>();
  readonly #objects: LocatedObject[] = [];
  readonly #diagnostics: Diagnostic[] = [];
  #broken = false;
  #untold = 0;
  #untoldErrors = 0;

  constructor(name: string, knownBefore: KnownDocuments = new Map()) {
    this.#name = name;
    this.#knownBefore = knownBefore;
  }

  isKnown(text: string): boolean {
    return this.#knownBefore.has(text);
  }

  take(document: ManifestDocument | KnownDocument): void {
    if (document.kind === "broken") {
      this.fail(document.reason, document.line);
      return;
    }
    const origin = `${this.#name}:${document.line}`;
    if (document.kind === "known") {
      const objects = this.#knownBefore.get(document.text) ?? [];
      this.#known.set(document.text, objects);
      for (const object of objects) this.#objects.push({ object, origin });
      return;
    }
    for (const { key, line } of document.duplicateKeys) {
      this.#tell({
        severity: "warning",
        kind: "File",
        object: this.#name,
        field: `line ${line}`,
        message: `the key ${JSON.stringify(key)} stands twice in one map; the last one counts`,
      });
    }
    const { objects, diagnostics, lost } = parseObject(document.value, origin);
    if (lost > 0) this.#broken = true;
    for (const diagnostic of diagnostics) this.#tell(diagnostic);
    for (const object of objects) this.#objects.push({ object, origin });
    // What was said names a line, which moves; such a document is read again.
    const isQuiet = diagnostics.length === 0 && document.duplicateKeys.length === 0;
    if (document.text !== undefined && isQuiet) this.#known.set(document.text, objects);
  }

  fail(reason: string, line?: number): void {
    this.#broken = true;
    this.#tell({
      severity: "error",
      kind: "File",
      object: this.#name,
      ...(line === undefined ? {} : { field: `line ${line}` }),
      message: line === undefined ? `${reason}; nothing of it is read` : `${reason}; the document is skipped`,
    });
  }

  finish(): ReadFile {
    if (this.#untold > 0) {
      this.#diagnostics.push({
        severity: this.#untoldErrors > 0 ? "error" : "warning",
        kind: "File",
        object: this.#name,
        message: `there are ${this.#untold} more problems like these, ${this.#untoldErrors} of them errors`,
      });
    }
    return {
      objects: this.#objects,
      diagnostics: this.#diagnostics,
      known: this.#known,
      broken: this.#broken,
    };
  }

  #tell(diagnostic: Diagnostic): void {
    if (this.#diagnostics.length < MAX_DIAGNOSTICS_PER_FILE) this.#diagnostics.push(diagnostic);
    else {
      this.#untold++;
      if (diagnostic.severity === "error") this.#untoldErrors++;
    }
  }
}

async function readFileContent(
  { path, stats }: ManifestFile,
  known: KnownDocuments,
  turns: Turns,
): Promise<ReadFile> {
  const content = new FileContent(path, known);
  try {
    const bytes = stats.isFile() ? await readStableFile(path) : await readStream(path);
    if (bytes === undefined) content.fail(`it is larger than ${MAX_FILE_BYTES / 1024 / 1024} MiB`);
    else await takeDocuments(bytes, path, content, turns);
  } catch (error) {
    content.fail(reasonOfSystemError(error));
  }
  return content.finish();
}

async function takeDocuments(
  bytes: Uint8Array,
  path: string,
  content: FileContent,
  turns: Turns,
): Promise<void> {
  const { text, notUtf8 } = decodeText(bytes);
  const options = { json: extname(path).toLowerCase() === ".json", notUtf8 };
  for (const document of readUnknownDocuments(text, options, (known) => content.isKnown(known))) {
    content.take(document);
    if (turns.isOver()) await turns.next();
  }
}

/** UTF-8, or UTF-16 with its mark as PowerShell writes it; a mark itself is dropped. What is no UTF-8 becomes U+FFFD. */
export function decodeText(bytes: Uint8Array): { readonly text: string; readonly notUtf8: boolean } {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe)
    return { text: new TextDecoder("utf-16le").decode(bytes), notUtf8: false };
  if (first === 0xfe && second === 0xff)
    return { text: new TextDecoder("utf-16be").decode(bytes), notUtf8: false };
  try {
    return { text: new TextDecoder("utf-8", { fatal: true }).decode(bytes), notUtf8: false };
  } catch {
    return { text: new TextDecoder("utf-8").decode(bytes), notUtf8: true };
  }
}

const READ_ATTEMPTS = 5;

/** The bytes of a file that nobody wrote to meanwhile, as far as one can tell; undefined for a file that is too large. */
async function readStableFile(path: string): Promise<Uint8Array | undefined> {
  const file = openSync(path, "r");
  try {
    for (let attempt = 1; ; attempt++) {
      const before = fstatSync(file, { bigint: true });
      if (before.size > MAX_FILE_BYTES) return undefined;
      const bytes = readWhole(file, Number(before.size));
      const after = fstatSync(file, { bigint: true });
      if (signatureOf(before) === signatureOf(after) || attempt === READ_ATTEMPTS) return bytes;
      await wait(20);
    }
  } finally {
    closeSync(file);
  }
}

function readWhole(file: number, size: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(size);
  let length = 0;
  while (length < size) {
    const read = readSync(file, bytes, length, size - length, length);
    if (read === 0) break;
    length += read;
  }
  return bytes.subarray(0, length);
}

/** A pipe or a device that a person named (`-f <(kustomize build)`), to its end; undefined for one that is too long. */
async function readStream(path: string): Promise<Uint8Array | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  const stream = (await open(path, "r")).createReadStream();
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_FILE_BYTES) return undefined;
  }
  return Buffer.concat(chunks, length);
}
