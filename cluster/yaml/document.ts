/** One document of a manifest text, read or not. Lines count from 1, in the text it came from. */
export type ManifestDocument = ReadDocument | BrokenDocument;

/** A document that was not read, because its text is known. */
export interface KnownDocument {
  readonly kind: "known";
  readonly line: number;
  readonly text: string;
}

export interface ReadDocument {
  readonly kind: "read";
  readonly line: number;
  /** Maps, lists, strings, numbers, booleans and null, as JSON would hold them. Never a document without content. */
  readonly value: unknown;
  /** Keys that one mapping holds twice; the last one counted, as for kubectl. */
  readonly duplicateKeys: readonly DuplicateKey[];
  /** What it was read from. Absent where the text held more than this document. */
  readonly text?: string;
}

export interface BrokenDocument {
  readonly kind: "broken";
  readonly line: number;
  /** A clause without subject or full stop: `a tab indents the line`. */
  readonly reason: string;
}

export interface DuplicateKey {
  readonly line: number;
  readonly key: string;
}
