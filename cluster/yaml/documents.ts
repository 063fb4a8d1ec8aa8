/**
 * Cuts the text of a manifest file into documents and reads each of them.
 *
 * In: text, as YAML (several documents) or JSON (one value or several in a row). Out: documents in their order,
 * each with its line; a broken one costs only itself. Documents without content are left out.
 * Not here: files and bytes (`files.ts`), what a document means (`objects/`).
 *
 * Cutting before reading is safe: in YAML a line that begins with `---` and a blank, or with `...`, ends a document even
 * within a quoted or block scalar (YAML 1.2.2 §9.1). It is what keeps one unclosed quote from swallowing the file.
 */

import { readBlockDocument } from "./block-reader.ts";
import type { KnownDocument, ManifestDocument } from "./document.ts";
import { MAX_FULL_YAML_CHARACTERS, readFullDocument } from "./full-reader.ts";

/** Characters that YAML does not allow (YAML 1.2.2 §5.1); NUL is the one that people meet. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for.
const CONTROL_CHARACTER = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;
/**
 * What the full reader may cost for one text, in characters: some eight seconds, in turns. Only nonsense needs more, or
 * megabytes of anchors.
 */
const FULL_READER_BUDGET = 8 * 1024 * 1024;
/** What a document costs it beside its characters. */
const FULL_READER_DOCUMENT_COST = 50;
const REPLACEMENT_CHARACTER = "\ufffd";

export interface DocumentOptions {
  /** The text is JSON and nothing else (a `.json` file), so its mistakes are told in JSON's words. */
  readonly json?: boolean;
  /** The bytes were not all UTF-8; what was not is U+FFFD in the text. */
  readonly notUtf8?: boolean;
}

/** The documents of a text. Never throws, whatever the text holds. */
export function readDocuments(text: string, options: DocumentOptions = {}): Generator<ManifestDocument> {
  return readUnknownDocuments(text, options, () => false) as Generator<ManifestDocument>;
}

/** As `readDocuments`; a YAML document whose text is known is not read again. */
export function* readUnknownDocuments(
  text: string,
  options: DocumentOptions,
  isKnown: (text: string) => boolean,
): Generator<ManifestDocument | KnownDocument> {
  const lines = text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
  if (options.json === true) {
    if (!isEmpty(lines)) yield* readJson({ text: lines, line: 1 }, options);
    return;
  }
  const budget = { characters: FULL_READER_BUDGET };
  for (const piece of yamlPieces(lines)) {
    if (isKnown(piece.text)) yield { kind: "known", line: lineOfContent(piece), text: piece.text };
    else yield* readPiece(piece, options, budget);
  }
}

interface Budget {
  characters: number;
}

interface Piece {
  /** Not blank; ends with a line break. */
  readonly text: string;
  readonly line: number;
}

function* readPiece(piece: Piece, options: DocumentOptions, budget: Budget): Generator<ManifestDocument> {
  if (beginsLikeJson(piece.text)) {
    const json = [...readJson(piece, options)];
    // A flow collection of YAML begins like JSON; what is too long for YAML's reader is taken for JSON.
    if (piece.text.length > MAX_FULL_YAML_CHARACTERS || json.every((document) => document.kind === "read")) {
      yield* json;
      return;
    }
  }
  const refused = refusedBytes(piece, options) ?? refusedCharacter(piece);
  const document = refused ?? readYaml(piece, budget);
  if (document?.kind === "read") yield { ...document, text: piece.text };
  else if (document !== undefined) yield document;
}

function readYaml(piece: Piece, budget: Budget): ManifestDocument | undefined {
  const quick = readBlockDocument(piece.text, piece.line);
  if (quick === undefined) {
    budget.characters -= piece.text.length + FULL_READER_DOCUMENT_COST;
    if (budget.characters >= 0) return readFullDocument(piece.text, piece.line) ?? undefined;
    return {
      kind: "broken",
      line: piece.line,
      reason: "too much of the file before it is broken YAML, or uses anchors or tags",
    };
  }
  if (quick.value === null) return undefined;
  return { kind: "read", line: lineOfContent(piece), value: quick.value, duplicateKeys: quick.duplicateKeys };
}

function beginsLikeJson(text: string): boolean {
  let at = 0;
  while (isBlank(text.charCodeAt(at))) at++;
  const first = text.charCodeAt(at);
  return first === 123 || first === 91;
}

function isBlank(code: number): boolean {
  return code === 32 || code === 10 || code === 9;
}

/** One JSON value, or several in a row as `kubectl get -o json` in a loop writes them. */
function* readJson(piece: Piece, options: DocumentOptions): Generator<ManifestDocument> {
  const whole = parseJson(piece, options);
  if (whole.kind === "read") {
    if (whole.value !== null) yield whole;
    return;
  }
  let line = piece.line;
  let counted = 0;
  let values = 0;
  for (const [start, end] of jsonExtents(piece.text)) {
    line += lineBreaks(piece.text, counted, start);
    counted = start;
    // A single value has its error already, with the right line.
    if (++values === 1 && isEmpty(piece.text.slice(end))) yield whole;
    else yield parseJson({ text: piece.text.slice(start, end), line }, options);
  }
}

function parseJson(piece: Piece, options: DocumentOptions): ManifestDocument {
  const refused = refusedBytes(piece, options);
  if (refused !== undefined) return refused;
  try {
    return {
      kind: "read",
      line: lineOfContent(piece),
      value: JSON.parse(piece.text) as unknown,
      duplicateKeys: [],
    };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const position = /at position (\d+)/.exec(message)?.[1];
    const line = piece.line + lineBreaks(piece.text, 0, Number(position ?? 0));
    const reason = message.replace(/(?: in JSON)? at position.*$/s, "").replaceAll(/\s+/g, " ");
    return { kind: "broken", line, reason: `it is not JSON: ${reason}` };
  }
}

function refusedBytes(piece: Piece, options: DocumentOptions): ManifestDocument | undefined {
  const index = options.notUtf8 === true ? piece.text.indexOf(REPLACEMENT_CHARACTER) : -1;
  if (index < 0) return undefined;
  const line = piece.line + lineBreaks(piece.text, 0, index);
  return { kind: "broken", line, reason: "it holds bytes that are not UTF-8 text" };
}

function refusedCharacter(piece: Piece): ManifestDocument | undefined {
  const control = CONTROL_CHARACTER.exec(piece.text);
  if (control === null) return undefined;
  const code = control[0].charCodeAt(0);
  const name = code === 0 ? "a NUL byte" : `the control character 0x${code.toString(16).padStart(2, "0")}`;
  const line = piece.line + lineBreaks(piece.text, 0, control.index);
  return { kind: "broken", line, reason: `it holds ${name}, which YAML does not allow` };
}

/** Documents end at `---` and `...` lines; directives (`%YAML 1.2`) before a `---` are dropped. */
function* yamlPieces(text: string): Generator<Piece> {
  let start = 0;
  let line = 1;
  let prefix = "";
  let position = 0;
  let positionLine = 1;
  while (position < text.length) {
    const newline = text.indexOf("\n", position);
    const end = newline < 0 ? text.length : newline;
    const mark = markAt(text, position, end);
    if (mark !== undefined) {
      const piece = prefix + text.slice(start, position);
      if (!isEmpty(piece) && !(mark === "---" && piece.startsWith("%"))) yield { text: piece, line };
      // What follows `---` on its line belongs to the next document; spaces keep its column.
      const rest = mark === "---" ? text.slice(position + 3, end) : "";
      prefix = isEmpty(rest) || rest.trimStart().startsWith("#") ? "" : `   ${rest}\n`;
      start = end + 1;
      line = prefix === "" ? positionLine + 1 : positionLine;
    }
    position = end + 1;
    positionLine++;
  }
  const last = prefix + text.slice(Math.min(start, text.length));
  if (!isEmpty(last)) yield { text: last.endsWith("\n") ? last : `${last}\n`, line };
}

function markAt(text: string, start: number, end: number): "---" | "..." | undefined {
  const first = text.charCodeAt(start);
  if (first !== 45 && first !== 46) return undefined;
  const mark = text.startsWith("---", start) ? "---" : text.startsWith("...", start) ? "..." : undefined;
  if (mark === undefined) return undefined;
  const next = text.charCodeAt(start + 3);
  return start + 3 >= end || next === 32 || next === 9 ? mark : undefined;
}

function isEmpty(text: string): boolean {
  return !/\S/.test(text);
}

/** Line breaks from `start` up to `end`. */
function lineBreaks(text: string, start: number, end: number): number {
  let count = 0;
  for (let at = text.indexOf("\n", start); at >= 0 && at < end; at = text.indexOf("\n", at + 1)) count++;
  return count;
}

/** The line of the first character that is neither blank nor in a comment. */
function lineOfContent(piece: Piece): number {
  const { text } = piece;
  let line = piece.line;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 35) at = text.indexOf("\n", at);
    else if (!isBlank(code)) break;
    if (text.charCodeAt(at) === 10) line++;
  }
  return line;
}

/** Where the objects and lists of a row of JSON values begin and end, told by brackets outside of strings. */
function* jsonExtents(text: string): Generator<readonly [number, number]> {
  let depth = 0;
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 34:
        at++;
        while (at < text.length && text.charCodeAt(at) !== 34) at += text.charCodeAt(at) === 92 ? 2 : 1;
        break;
      case 123:
      case 91:
        if (depth === 0) {
          if (text.slice(start, at).trim() !== "") yield [start, at];
          start = at;
        }
        depth++;
        break;
      case 125:
      case 93:
        if (depth > 0 && --depth === 0) {
          yield [start, at + 1];
          start = at + 1;
        }
        break;
      default:
    }
  }
  if (text.slice(start).trim() !== "") yield [start, text.length];
}
