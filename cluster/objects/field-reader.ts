/**
 * Reads the fields of one map of a raw object with the types that Kubernetes gives them.
 *
 * In: a JSON object and its field path. Out: typed values, and diagnostics in the report.
 * null is absent, as in every Go client. A value of the wrong type is never bent into the right one: the
 * API server would refuse the object. What that costs is the caller's choice: a reader that has `failed` has told
 * so already, with its own `consequence`, and the caller leaves out what it was reading.
 */

import type { RawMap } from "../yaml/bare-map.ts";
import { bareMap, isRawMap } from "../yaml/bare-map.ts";
import { nearestWord } from "./nearest-word.ts";
import type { ObjectReport } from "./report.ts";
import { describeValue, quote } from "./report.ts";

const NOTHING: readonly never[] = [];
const NO_TEXTS: Readonly<Record<string, string>> = Object.freeze(bareMap<string>());

export class FieldReader {
  readonly report: ObjectReport;
  readonly raw: RawMap;
  /** A field was wrongly typed, out of its range or missing; the report knows. */
  failed = false;
  readonly #consequence: string;
  /** The reader of the map that this one is in, by its field and, in a list, its place there. */
  readonly #within: FieldReader | undefined;
  readonly #field: string;
  readonly #index: number | undefined;
  /** What fails here fails the map around it too. */
  readonly #failsWithin: boolean;

  constructor(
    raw: RawMap,
    report: ObjectReport,
    consequence: string,
    within?: FieldReader,
    field = "",
    index?: number,
    failsWithin = false,
  ) {
    this.raw = raw;
    this.report = report;
    this.#consequence = consequence;
    this.#within = within;
    this.#field = field;
    this.#index = index;
    this.#failsWithin = failsWithin;
  }

  /** `spec.rules[0]`; empty for the object itself. Put together when somebody asks: nearly always nobody does. */
  get path(): string {
    if (this.#within === undefined) return this.#field;
    const path = this.#within.pathOf(this.#field);
    return this.#index === undefined ? path : `${path}[${this.#index}]`;
  }

  /** The path of a field of this map. */
  pathOf(field: string): string {
    const { path } = this;
    return path === "" ? field : `${path}.${field}`;
  }

  has(field: string): boolean {
    return this.#value(field) !== undefined;
  }

  /** Tells an error in a field and what it costs; `problem` is a clause: `"x" is not a DNS name`. */
  fail(field: string, problem: string): void {
    this.failed = true;
    for (let reader: FieldReader = this; reader.#failsWithin && reader.#within !== undefined; ) {
      reader = reader.#within;
      reader.failed = true;
    }
    this.report.add(
      "error",
      field === "" ? this.path : this.pathOf(field),
      `${problem}; ${this.#consequence}`,
    );
  }

  warn(field: string, message: string): void {
    this.report.add("warning", field === "" ? this.path : this.pathOf(field), message);
  }

  text(field: string): string | undefined {
    const value = this.#value(field);
    if (value === undefined || typeof value === "string") return value;
    const hint = typeof value === "number" || typeof value === "boolean" ? " (quote it)" : "";
    this.fail(field, `${describeValue(value)} came where text is expected${hint}`);
    return undefined;
  }

  requiredText(field: string): string {
    const value = this.text(field);
    if (value !== undefined && value !== "") return value;
    if (value === "" || !this.has(field)) this.fail(field, "it is required and missing");
    return "";
  }

  /** One of a few words; another one is an error, never the default. */
  word<W extends string>(field: string, words: readonly W[]): W | undefined {
    const value = this.text(field);
    if (value === undefined || value === "") return undefined;
    for (const word of words) if (word === value) return word;
    this.fail(field, `${quote(value)} came where ${words.join(", ")} is expected`);
    return undefined;
  }

  flag(field: string): boolean | undefined {
    const value = this.#value(field);
    if (value === undefined || typeof value === "boolean") return value;
    this.fail(field, `${describeValue(value)} came where true or false is expected`);
    return undefined;
  }

  /** A whole number of the range, both ends included. */
  integer(field: string, from: number, to: number): number | undefined {
    const value = this.#value(field);
    if (value === undefined) return undefined;
    if (typeof value === "number" && Number.isInteger(value) && value >= from && value <= to) return value;
    this.fail(field, `${describeValue(value)} came where a whole number from ${from} to ${to} is expected`);
    return undefined;
  }

  /** A map of text to text. A value that is no text fails this reader. Never holds inherited keys. */
  textMap(field: string): Readonly<Record<string, string>> {
    const value = this.#value(field);
    if (value === undefined) return NO_TEXTS;
    if (!isRawMap(value)) {
      this.fail(field, `${describeValue(value)} came where a map of text to text is expected`);
      return NO_TEXTS;
    }
    const keys = Object.keys(value);
    if (keys.length === 0) return NO_TEXTS;
    const map = bareMap<string>();
    for (const key of keys) {
      const entry = value[key];
      if (typeof entry === "string") map[key] = entry;
      else if (entry === null || entry === undefined) map[key] = "";
      else {
        const hint = typeof entry === "object" ? "" : `; write "${String(entry)}" in quotes`;
        this.fail(`${field}[${quote(key)}]`, `${describeValue(entry)} came where text is expected${hint}`);
      }
    }
    return map;
  }

  /** A list of texts. One that is none fails this reader. */
  texts(field: string): readonly string[] {
    const list = this.list(field);
    if (list.every((entry) => typeof entry === "string")) return list;
    const texts: string[] = [];
    list.forEach((entry, index) => {
      if (typeof entry === "string") texts.push(entry);
      else this.fail(`${field}[${index}]`, `${describeValue(entry)} came where text is expected`);
    });
    return texts;
  }

  list(field: string): readonly unknown[] {
    const value = this.#value(field);
    if (value === undefined) return NOTHING;
    if (Array.isArray(value)) return value;
    this.fail(field, `${describeValue(value)} came where a list is expected`);
    return NOTHING;
  }

  /** A map within this one. With a consequence of its own it fails alone; without, this reader fails with it. */
  map(field: string, consequence?: string): FieldReader | undefined {
    const value = this.#value(field);
    if (value === undefined) return undefined;
    if (!isRawMap(value)) {
      this.fail(field, `${describeValue(value)} came where a map is expected`);
      return undefined;
    }
    const failsWithin = consequence === undefined;
    const { report } = this;
    return new FieldReader(
      value,
      report,
      consequence ?? this.#consequence,
      this,
      field,
      undefined,
      failsWithin,
    );
  }

  /**
   * The maps of a list, each with failures of its own. An entry that is no map is told with `consequence` and left out;
   * a field that is no list fails this reader.
   */
  maps(field: string, consequence: string): readonly FieldReader[] {
    const list = this.list(field);
    if (list.length === 0) return NOTHING;
    const { report } = this;
    const readers: FieldReader[] = [];
    for (let index = 0; index < list.length; index++) {
      const entry = list[index];
      if (isRawMap(entry)) {
        readers.push(new FieldReader(entry, report, consequence, this, field, index));
        continue;
      }
      const path = `${this.pathOf(field)}[${index}]`;
      report.add("error", path, `${describeValue(entry)} came where a map is expected; ${consequence}`);
    }
    return readers;
  }

  /** Warns of every field that the API does not know here: an API server drops it in silence. */
  knowsOnly(known: ReadonlySet<string>, hints: Readonly<Record<string, string>> = {}): void {
    for (const field in this.raw) {
      if (known.has(field) || !Object.hasOwn(this.raw, field)) continue;
      const near = Object.hasOwn(hints, field) ? undefined : nearestWord(field, known);
      const hint = Object.hasOwn(hints, field)
        ? `; ${hints[field]}`
        : near === undefined
          ? ""
          : `; is ${near} meant?`;
      this.warn(
        field.includes(".") ? `[${quote(field)}]` : field,
        `the field is not known here and is ignored${hint}`,
      );
    }
  }

  #value(field: string): unknown {
    const value = this.raw[field];
    // A JSON object inherits `constructor` and its like, all of them functions.
    return value === null || typeof value === "function" ? undefined : value;
  }
}
