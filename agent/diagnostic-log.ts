/** Diagnostics as lines for stderr: each once, as long as it stands. */

import { type Diagnostic, formatDiagnostic } from "../cluster/diagnostic.ts";

export class DiagnosticLog {
  readonly #say: (line: string) => void;
  readonly #shown = new Map<string, ReadonlySet<string>>();

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  /** `subject` tells whose complete diagnostics these are: of the reader, of the compiler. */
  show(subject: "reading" | "compiling", diagnostics: readonly Diagnostic[]): void {
    const before = this.#shown.get(subject);
    const lines = new Set(diagnostics.map(formatDiagnostic));
    for (const line of lines) if (before?.has(line) !== true) this.#say(line);
    this.#shown.set(subject, lines);
  }
}
