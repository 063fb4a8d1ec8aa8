/** Collects what is wrong with one object. Sentences are made here, so that they all read alike. */

import type { Diagnostic } from "../diagnostic.ts";

/** What a report is about. Its texts are asked for when there is something to report: nearly always there is nothing. */
export interface ReportSubject {
  readonly kind: string;
  readonly object: string;
  readonly origin: string | undefined;
}

export class ObjectReport {
  readonly #subject: ReportSubject;
  readonly #sink: Diagnostic[];

  constructor(subject: ReportSubject, sink: Diagnostic[]) {
    this.#subject = subject;
    this.#sink = sink;
  }

  add(severity: Diagnostic["severity"], field: string, message: string): void {
    const { kind, object, origin } = this.#subject;
    this.#sink.push({
      severity,
      kind,
      object,
      ...(field === "" ? {} : { field }),
      ...(origin === undefined ? {} : { origin }),
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
