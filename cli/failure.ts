/**
 * The two ways in which a command gives up, and the text and exit code that each one gets.
 * A command throws one of these with a sentence made for the person at the terminal; every other error is a bug or
 * I/O, and is told by its own message.
 */

/** The command line itself is wrong (unknown value, missing argument): exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The command was understood and could not be done: exit code 1. */
export class CommandFailure extends Error {
  override readonly name = "CommandFailure";
}

export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;

export function exitCodeOf(error: unknown): number {
  return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILURE;
}

/** What is printed for `error`: one line on stderr, or its stack when `FAIRLEAD_DEBUG=1`. */
export function describeError(error: unknown, environment: NodeJS.ProcessEnv = process.env): string {
  if (environment.FAIRLEAD_DEBUG === "1" && error instanceof Error) {
    return `fairlead: ${error.stack ?? error.message}\n`;
  }
  return `fairlead: ${asSentence(error instanceof Error ? error.message : String(error))}\n`;
}

/** One line that ends like a sentence; an empty message says at least that something failed. */
export function asSentence(message: string): string {
  const line = message
    .replace(/^error: /u, "")
    .replace(/\s+/gu, " ")
    .trim();
  if (line === "") return "failed without a message; FAIRLEAD_DEBUG=1 shows where.";
  return /[.!?)]$/u.test(line) ? line : `${line}.`;
}
