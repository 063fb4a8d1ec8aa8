/**
 * Which regular expressions of users can be honoured: those that mean the same here as in PCRE and that run in
 * linear time. What is outside is refused by name, never approximated.
 *
 * Not here: the engine (the edge's own, linear-time); this is only what may be handed to it.
 */

const REFUSED: readonly (readonly [RegExp, string])[] = [
  [/\(\?<?[=!]/, "lookahead and lookbehind are not supported"],
  [/\(\?>/, "atomic groups are not supported"],
  [/\(\?[PR0-9&|(]/, "recursion, conditions and PCRE's own kinds of groups are not supported"],
  [/\(\?[a-zA-Z^-]+[:)]/, "flags inside a regular expression are not supported"],
  [/\\[1-9]|\\[gk][{<']?/, "references to groups are not supported"],
  [/(?:[*+?]|\})\+/, "possessive quantifiers are not supported"],
  [/\\[AzZGKQEXRhHNV]/, "PCRE's own escapes (\\A, \\z, \\K, \\R, \\h, …) are not supported"],
  [/\[\[:\^?[a-z]+:\]/, "POSIX classes ([[:alpha:]]) are not supported"],
  [/\(\*[A-Z]/, "PCRE's verbs are not supported"],
];

const MAX_LENGTH = 1024;

/** `undefined`: it can be used. Otherwise why not, as a clause. */
export function refuseRegex(text: string): string | undefined {
  if (text.length > MAX_LENGTH) return `at most ${MAX_LENGTH} characters are allowed`;
  // What an escaped backslash is followed by is not an escape, so pairs are put aside before looking.
  const bare = text.replaceAll("\\\\", "__");
  const found = REFUSED.find(([syntax]) => syntax.test(bare));
  if (found !== undefined) return found[1];
  try {
    new RegExp(text, "i");
    return undefined;
  } catch {
    return "it is not a valid regular expression";
  }
}
