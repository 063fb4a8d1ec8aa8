/** Collects what is wrong with one object. Sentences are made here, so that they all read alike. */

import type { Diagnostic } from "../diagnostic.ts";

export class ObjectReport {
  readonly kind: string;
  readonly object: string;
  readonly #origin: string | undefined;
  readonly #sink: Diagnostic[];

  constructor(kind: string, object: string, origin: string | undefined, sink: Diagnostic[]) {
    this.kind = kind;
    this.object = object;
    this.#origin = origin;
    this.#sink = sink;
  }

  add(severity: Diagnostic["severity"], field: string, message: string): void {
    this.#sink.push({
      severity,
      kind: this.kind,
      object: this.object,
      ...(field === "" ? {} : { field }),
      ...(this.#origin === undefined ? {} : { origin: this.#origin }),
      message,
    });
  }
}

const LONGEST_VALUE = 60;

/** A value as a sentence may name it: `"web"`, `the number 5`, `a list`. */
export function describeValue(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (typeof value === "string") return quote(value);
  if (typeof value === "number") return `the number ${value}`;
  if (typeof value === "boolean") return `the boolean ${value}`;
  return Array.isArray(value) ? "a list" : "a map";
}

/** Text in quotes, without line breaks, cut where it is long. */
export function quote(text: string): string {
  return JSON.stringify(text.length > LONGEST_VALUE ? `${text.slice(0, LONGEST_VALUE)}…` : text);
}
