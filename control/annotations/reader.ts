/**
 * How the text of one annotation, or of one key of the controller's ConfigMap, becomes a value.
 *
 * In: text. Out: a value, or the words for what was expected instead. A reader never guesses: what it cannot
 * read is unreadable, and its feature's `onInvalid` (or the reader's own `unreadable`) says what follows.
 * Not here: the readers themselves (`readers.ts`), where the text is found (`read.ts`).
 */

/** `expected` completes the sentence `"x" was given, but … was expected`. */
export type Reading<T> =
  | { readonly kind: "Value"; readonly value: T; readonly remarks?: readonly string[] }
  | { readonly kind: "Unreadable"; readonly expected: string };

/** Reads one annotation. `Absent` is the type of its value when nobody wrote it: its default, or `undefined`. */
export interface Reader<T, Absent extends T | undefined = undefined> {
  /** For the reference: `boolean`, `seconds`, `comma-separated CIDRs`, … */
  readonly type: string;
  /** What it does, in one sentence, for the reference. */
  readonly doc: string;
  /** In characters; a longer text is unreadable. */
  readonly maxLength: number;
  readonly read: (text: string) => Reading<T>;
  readonly options: ReaderOptions<T, Absent>;
  /** The value names an object of this kind, which whoever watches the cluster must fetch. */
  readonly refersTo?: "Secret" | "ConfigMap";
}

export interface ReaderOptions<T, Absent extends T | undefined = undefined> {
  /** The documented default: the value when nobody wrote the annotation. */
  readonly default?: Absent;
  /** The default in words, where the value does not say it well. */
  readonly defaultText?: string;
  /**
   * What an unreadable text counts as, instead of the feature's `onInvalid`. Only ever the closed side:
   * `false` for a permission that is on by default.
   */
  readonly unreadable?: T;
  /** Where nginx ignores an unreadable text and the default opens nothing: use the default, with an error. */
  readonly ignoreUnreadable?: true;
  /** Older or other names of the same annotation; asked in turn when this one is absent or empty. */
  readonly aliases?: readonly (string | Alias)[];
  /** The ConfigMap key that gives the value when no annotation does; read by the same reader. */
  readonly setting?: string;
  /** Where Fairlead does not do what ingress-nginx did, in one sentence; makes it `honoured with a difference`. */
  readonly difference?: string;
  /** In characters; default 2048, 65536 for lists. */
  readonly maxLength?: number;
}

/** A name with other words for the same thing: `secure-backends: "true"` is `backend-protocol: HTTPS`. */
export interface Alias {
  readonly name: string;
  /** The text for the canonical name; `undefined` when this text asks for nothing. */
  readonly translate: (text: string) => string | undefined;
}

/** Some readers by name: the annotations, or the settings, of one feature. */
// biome-ignore lint/suspicious/noExplicitAny: readers of every type stand side by side; `Values` gives each its own again.
export type Readers = Readonly<Record<string, Reader<any, any>>>;

/** What a feature's `compile` gets: one value a reader, its default where nothing was written. */
export type Values<R extends Readers> = {
  readonly [K in keyof R]: R[K] extends Reader<infer T, infer Absent> ? T | Absent : never;
};

export function value<T>(value: T, remarks: readonly string[] = []): Reading<T> {
  return remarks.length === 0 ? { kind: "Value", value } : { kind: "Value", value, remarks };
}

export function unreadable(expected: string): Reading<never> {
  return { kind: "Unreadable", expected };
}

/** The name of an alias, however it is written. */
export function aliasName(alias: string | Alias): string {
  return typeof alias === "string" ? alias : alias.name;
}
