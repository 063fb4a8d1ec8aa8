/** Prints diagnostics as they appear, and tells which of them are gone. */

import { type Diagnostic, formatDiagnostic } from "../../cluster/diagnostic.ts";

export class DiagnosticsPrinter {
  readonly #write: (line: string) => void;
  #shown: ReadonlySet<string> = new Set();

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /** Shows the difference to the last call. */
  show(diagnostics: readonly Diagnostic[]): void {
    const lines = new Set(diagnostics.map(formatDiagnostic));
    for (const line of this.#shown) if (!lines.has(line)) this.#write(`resolved: ${line}`);
    for (const line of lines) if (!this.#shown.has(line)) this.#write(line);
    this.#shown = lines;
  }
}
