/** A problem with somebody's input, as data: who reads it knows the object, the field, what came and what was expected. */
export interface Diagnostic {
  /** `error`: something that was asked for is not done. `warning`: done, with a difference worth knowing. `info`: a note. */
  readonly severity: "error" | "warning" | "info";
  /** Kind of the object, as Kubernetes spells it; `File` when there is no object yet. */
  readonly kind: string;
  /** `namespace/name`, a bare name for cluster-scoped kinds, or the path of the file. */
  readonly object: string;
  /** Where in the object: a field path (`spec.rules[0].host`), an annotation, or `line 12`. Absent: the whole object. */
  readonly field?: string;
  /** Where the object was read from (`shop.yaml:12`). Absent: from the API, or no single place. */
  readonly origin?: string;
  /** One sentence: what came, what was expected, what happens now. No line break. */
  readonly message: string;
}

/** One line for a person: `error: Ingress shop/web spec.rules[0].host: … (shop.yaml:12)`. */
export function formatDiagnostic(diagnostic: Diagnostic): string {
  const where = diagnostic.field === undefined ? "" : ` ${diagnostic.field}`;
  const origin = diagnostic.origin === undefined ? "" : ` (${diagnostic.origin})`;
  const line = `${diagnostic.severity}: ${diagnostic.kind} ${diagnostic.object}${where}: ${diagnostic.message}${origin}`;
  // Names of files and objects come from outside; a line break or an escape sequence in one must not reach a terminal.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it removes.
  return line.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ");
}
