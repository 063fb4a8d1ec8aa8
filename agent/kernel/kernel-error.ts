/** A transaction that the kernel, or the program that speaks to it, did not take. Nothing of it is in force. */

export interface KernelErrorDetails {
  readonly program: string;
  /** What the program said, one line. */
  readonly reason: string;
  /** Counted from 1, in the transaction as it was sent. */
  readonly line?: number | undefined;
  /** The line, shortened around the place where it is wrong. */
  readonly text?: string | undefined;
}

/** Its message is one sentence that names the first failing line. */
export class KernelError extends Error {
  override readonly name = "KernelError";
  readonly details: KernelErrorDetails;

  constructor(details: KernelErrorDetails) {
    const { program, reason, line, text } = details;
    const where = line === undefined ? "" : ` at line ${line}${text === undefined ? "" : ` (${text})`}`;
    super(`${program} refused the transaction${where}: ${reason.replace(/\.$/, "")}.`);
    this.details = details;
  }
}

const EXCERPT_LENGTH = 160;

/** Line `line` (from 1) of the pieces, cut to a readable length around `column` (from 1). */
export function excerptOf(
  pieces: readonly (string | Uint8Array)[],
  line: number,
  column = 1,
): string | undefined {
  const bytes = Buffer.concat(pieces.map((piece) => Buffer.from(piece as Uint8Array)));
  let start = 0;
  for (let at = 1; at < line; at++) {
    const newline = bytes.indexOf(10, start);
    if (newline < 0) return undefined;
    start = newline + 1;
  }
  const newline = bytes.indexOf(10, start);
  const end = newline < 0 ? bytes.length : newline;
  if (start >= end) return undefined;
  // The command itself stands at the beginning, the element that is wrong anywhere behind it.
  const from = Math.max(start, Math.min(start + column - 1 - EXCERPT_LENGTH / 4, end - EXCERPT_LENGTH));
  const to = Math.min(end, from + EXCERPT_LENGTH);
  const text = bytes.subarray(from, to).toString("utf8").trim();
  return `${from > start ? "…" : ""}${text}${to < end ? "…" : ""}`;
}
