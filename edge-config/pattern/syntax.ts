/**
 * Text of a regular expression in PCRE's notation → syntax tree, or the reason why it is refused.
 *
 * The tree speaks of bytes, like nginx, whose PCRE runs without UTF: letters beyond ASCII are their UTF-8
 * bytes, `.` is one byte, and case is that of the C locale. Case-insensitivity is folded into the sets, so
 * that whoever runs the tree needs no flag and no engine's own idea of case.
 *
 * What only a backtracking engine can do (look-around, backreferences, possessive and atomic groups,
 * recursion, …) is refused by name and never approximated: a rule that matches something else than its
 * author meant is worse than one that says it cannot be kept.
 * One difference is kept on purpose: `$` is the end of the text only. PCRE's also matches before a last
 * newline, which lets `%0A` slip past a pattern that was written to be exact.
 */

import { ByteSet } from "./byte-set.ts";

export type Syntax =
  | { readonly kind: "bytes"; readonly set: ByteSet }
  | { readonly kind: "sequence"; readonly items: readonly Syntax[] }
  | { readonly kind: "choice"; readonly options: readonly Syntax[] }
  | {
      readonly kind: "repeat";
      readonly item: Syntax;
      readonly min: number;
      /** `Infinity` for no bound. */
      readonly max: number;
      readonly greedy: boolean;
    }
  | { readonly kind: "capture"; readonly index: number; readonly item: Syntax }
  | { readonly kind: "assertion"; readonly at: "start" | "end" | "word boundary" | "not a word boundary" };

export type ParsedPattern =
  | { readonly kind: "parsed"; readonly syntax: Syntax; readonly captures: number }
  | { readonly kind: "refused"; readonly reason: string };

/** Longer text is refused: no hand-written rule is, and compiling costs in proportion. */
export const MAX_PATTERN_BYTES = 4096;
/** RE2's own bound for one counted repeat. */
const MAX_REPEAT = 1000;
/** Bound for the size of the pattern once its counted repeats are written out. */
const MAX_EXPANDED_SIZE = 20_000;
const MAX_DEPTH = 100;

interface Flags {
  readonly ignoreCase: boolean;
  readonly dotAll: boolean;
}

class Refusal extends Error {}

/** Parses `text`; `ignoreCase` is what nginx's `~*` or a leading `(?i)` asks for. */
export function parsePattern(text: string, options: { readonly ignoreCase: boolean }): ParsedPattern {
  const bytes = utf8AsLatin1(text);
  if (bytes.length > MAX_PATTERN_BYTES) {
    return { kind: "refused", reason: `is ${bytes.length} bytes long, the limit is ${MAX_PATTERN_BYTES}` };
  }
  const parser = new Parser(bytes);
  try {
    const syntax = parser.parse({ ignoreCase: options.ignoreCase, dotAll: false });
    if (expandedSize(syntax) > MAX_EXPANDED_SIZE) {
      return { kind: "refused", reason: "is too large once its counted repeats are written out" };
    }
    return { kind: "parsed", syntax, captures: parser.captures };
  } catch (error) {
    if (error instanceof Refusal) return { kind: "refused", reason: error.message };
    throw error;
  }
}

/** The UTF-8 bytes of `text`, one character each: the form in which patterns and decoded paths meet. */
export function utf8AsLatin1(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the test is for ASCII, controls included.
  if (/^[\x00-\x7f]*$/.test(text)) return text;
  return encodeURIComponent(text.toWellFormed()).replace(/%([0-9A-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

const DIGIT = ByteSet.range(48, 57);
const UPPER = ByteSet.range(65, 90);
const LOWER = ByteSet.range(97, 122);
const ALPHA = UPPER.union(LOWER);
const WORD = ALPHA.union(DIGIT).union(ByteSet.of("_"));
const SPACE = ByteSet.of("\t\n\v\f\r ");
const NEWLINE = ByteSet.of("\n");
const HORIZONTAL_SPACE = ByteSet.of("\t \xa0");
const VERTICAL_SPACE = ByteSet.of("\n\v\f\r\x85");

/** Escapes that stand for a set, inside and outside of brackets (pcre2pattern, "Generic character types"). */
const SET_ESCAPES: Readonly<Record<string, ByteSet>> = {
  d: DIGIT,
  D: DIGIT.complement(),
  w: WORD,
  W: WORD.complement(),
  s: SPACE,
  S: SPACE.complement(),
  h: HORIZONTAL_SPACE,
  H: HORIZONTAL_SPACE.complement(),
  v: VERTICAL_SPACE,
  V: VERTICAL_SPACE.complement(),
  N: NEWLINE.complement(),
};

const BYTE_ESCAPES: Readonly<Record<string, string>> = {
  a: "\x07",
  e: "\x1b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

const POSIX_CLASSES: Readonly<Record<string, ByteSet>> = {
  alnum: ALPHA.union(DIGIT),
  alpha: ALPHA,
  ascii: ByteSet.range(0, 127),
  blank: ByteSet.of("\t "),
  cntrl: ByteSet.range(0, 31).union(ByteSet.range(127, 127)),
  digit: DIGIT,
  graph: ByteSet.range(33, 126),
  lower: LOWER,
  print: ByteSet.range(32, 126),
  punct: ByteSet.range(33, 126).without(ALPHA.union(DIGIT)),
  space: SPACE,
  upper: UPPER,
  word: WORD,
  xdigit: DIGIT.union(ByteSet.of("abcdefABCDEF")),
};

/** What follows `(?`, for constructs that no linear-time engine has. The first that fits names it. */
const REFUSED_GROUPS: readonly (readonly [RegExp, string])[] = [
  [/^=/, "lookahead `(?=…)`"],
  [/^!/, "negative lookahead `(?!…)`"],
  [/^<=/, "lookbehind `(?<=…)`"],
  [/^<!/, "negative lookbehind `(?<!…)`"],
  [/^>/, "an atomic group `(?>…)`"],
  [/^\|/, "a branch reset group `(?|…)`"],
  [/^\(/, "a conditional group `(?(…)…)`"],
  [/^(?:R|[+-]?\d|&|P>)/, "recursion `(?R)`"],
  [/^P=/, "a backreference `(?P=…)`"],
  [/^C/, "a callout `(?C)`"],
];

const REFUSED_ESCAPES: Readonly<Record<string, string>> = {
  k: "a backreference `\\k`",
  g: "a backreference `\\g`",
  K: "a match reset `\\K`",
  G: "the assertion `\\G`",
  R: "the line-break escape `\\R`",
  X: "the grapheme escape `\\X`",
  C: "the escape `\\C`",
  p: "a Unicode property `\\p`",
  P: "a Unicode property `\\P`",
};

class Parser {
  captures = 0;
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(flags: Flags): Syntax {
    const { syntax } = this.#choice(flags);
    if (this.#at < this.#text.length) throw new Refusal(`has an unmatched \`)\` at byte ${this.#at + 1}`);
    return syntax;
  }

  /** Alternatives up to `)` or the end. Inline flags such as `(?i)` hold to the end of the enclosing group, over `|` too. */
  #choice(flags: Flags): { readonly syntax: Syntax } {
    if (++this.#depth > MAX_DEPTH) throw new Refusal(`nests groups more than ${MAX_DEPTH} deep`);
    const options: Syntax[] = [];
    let current = flags;
    for (;;) {
      const items: Syntax[] = [];
      while (this.#at < this.#text.length && !this.#sees("|") && !this.#sees(")")) {
        const inline = this.#inlineFlags(current);
        if (inline !== undefined) {
          current = inline;
          continue;
        }
        const item = this.#quantified(current);
        if (item !== undefined) items.push(item);
      }
      options.push(items.length === 1 && items[0] !== undefined ? items[0] : { kind: "sequence", items });
      if (!this.#take("|")) break;
    }
    this.#depth--;
    return {
      syntax: options.length === 1 && options[0] !== undefined ? options[0] : { kind: "choice", options },
    };
  }

  /** `(?i)`, `(?-s)`, …: flags for the rest of the group. */
  #inlineFlags(flags: Flags): Flags | undefined {
    const match = /^\(\?([a-zA-Z]*)(?:-([a-zA-Z]*))?\)/.exec(this.#rest(24));
    if (match === null || /^(?:R|C)$/.test(match[1] ?? "")) return undefined;
    this.#at += match[0].length;
    return withFlags(flags, match[1] ?? "", match[2] ?? "");
  }

  #quantified(flags: Flags): Syntax | undefined {
    const start = this.#at;
    const item = this.#atom(flags);
    if (item === undefined) return undefined;
    const quantifier = this.#quantifier();
    if (quantifier === undefined) return item;
    if (item.kind === "assertion") throw new Refusal(`repeats an assertion at byte ${start + 1}`);
    if (this.#take("+")) throw new Refusal(`uses a possessive quantifier at byte ${this.#at}`);
    const greedy = !this.#take("?");
    if (this.#quantifier() !== undefined)
      throw new Refusal(`has a quantifier with nothing to repeat at byte ${this.#at}`);
    return { kind: "repeat", item, ...quantifier, greedy };
  }

  #quantifier(): { readonly min: number; readonly max: number } | undefined {
    if (this.#take("*")) return { min: 0, max: Number.POSITIVE_INFINITY };
    if (this.#take("+")) return { min: 1, max: Number.POSITIVE_INFINITY };
    if (this.#take("?")) return { min: 0, max: 1 };
    // A `{` that does not begin a well-formed count is an ordinary character.
    const match = /^\{(\d+)(?:(,)(\d*))?\}/.exec(this.#rest(16));
    if (match === null) return undefined;
    this.#at += match[0].length;
    const min = Number(match[1]);
    const max = match[2] === undefined ? min : match[3] === "" ? Number.POSITIVE_INFINITY : Number(match[3]);
    if (min > MAX_REPEAT || (max !== Number.POSITIVE_INFINITY && max > MAX_REPEAT)) {
      throw new Refusal(`repeats ${match[0]} times, the limit is ${MAX_REPEAT}`);
    }
    if (max < min) throw new Refusal(`has a count whose maximum is below its minimum: ${match[0]}`);
    return { min, max };
  }

  /** One thing that a quantifier may follow; undefined for something that stands for nothing (`\E`, a comment). */
  #atom(flags: Flags): Syntax | undefined {
    const character = this.#next();
    switch (character) {
      case "(":
        return this.#group(flags);
      case "[":
        return { kind: "bytes", set: this.#brackets(flags) };
      case ".":
        return { kind: "bytes", set: flags.dotAll ? ByteSet.all : NEWLINE.complement() };
      case "^":
        return { kind: "assertion", at: "start" };
      case "$":
        return { kind: "assertion", at: "end" };
      case "*":
      case "+":
      case "?":
        throw new Refusal(`has a quantifier with nothing to repeat at byte ${this.#at}`);
      case "\\":
        return this.#escape(flags);
      default:
        return literal(character, flags);
    }
  }

  #group(flags: Flags): Syntax | undefined {
    const open = this.#at;
    if (this.#sees("*")) throw new Refusal(`uses a backtracking verb \`(*…)\` at byte ${open}`);
    let inner = flags;
    let index: number | undefined;
    if (this.#take("?")) {
      const rest = this.#rest(64);
      for (const [form, name] of REFUSED_GROUPS) {
        if (form.test(rest)) throw new Refusal(`uses ${name} at byte ${open}`);
      }
      if (rest.startsWith("#")) return this.#comment(open);
      const named = /^(?:P?<([A-Za-z_]\w*)>|'([A-Za-z_]\w*)')/.exec(rest);
      const scoped = /^([a-zA-Z]*)(?:-([a-zA-Z]*))?:/.exec(rest);
      if (named !== null) {
        this.#at += named[0].length;
        index = ++this.captures;
      } else if (scoped !== null) {
        this.#at += scoped[0].length;
        inner = withFlags(flags, scoped[1] ?? "", scoped[2] ?? "");
      } else {
        throw new Refusal(`has an unknown group \`(?${rest.slice(0, 2)}\` at byte ${open}`);
      }
    } else {
      index = ++this.captures;
    }
    const { syntax } = this.#choice(inner);
    if (!this.#take(")")) throw new Refusal(`has no \`)\` for the group at byte ${open}`);
    return index === undefined ? syntax : { kind: "capture", index, item: syntax };
  }

  #comment(open: number): undefined {
    const close = this.#text.indexOf(")", this.#at);
    if (close < 0) throw new Refusal(`has no \`)\` for the comment at byte ${open}`);
    this.#at = close + 1;
    return undefined;
  }

  #escape(flags: Flags): Syntax | undefined {
    if (this.#at >= this.#text.length) throw new Refusal("ends in a lone backslash");
    const character = this.#next();
    switch (character) {
      case "b":
        return { kind: "assertion", at: "word boundary" };
      case "B":
        return { kind: "assertion", at: "not a word boundary" };
      case "A":
        return { kind: "assertion", at: "start" };
      case "z":
      case "Z":
        return { kind: "assertion", at: "end" };
      case "Q":
        return this.#quoted(flags);
      case "E":
        return undefined;
      default: {
        const set = SET_ESCAPES[character];
        if (set !== undefined) return { kind: "bytes", set };
        return literal(this.#byteEscape(character), flags);
      }
    }
  }

  /** `\Q…\E`: what stands between is literal. A quantifier behind it repeats its last byte, so that byte is left to come. */
  #quoted(flags: Flags): Syntax | undefined {
    const end = this.#text.indexOf("\\E", this.#at);
    const text = this.#text.slice(this.#at, end < 0 ? undefined : end);
    this.#at += text.length + (end < 0 ? 0 : 2);
    if (text === "") return undefined;
    if (/^[*+?{]/.test(this.#rest(1)))
      throw new Refusal(`repeats a \`\\Q…\\E\` quotation at byte ${this.#at + 1}`);
    return { kind: "sequence", items: [...text].map((character) => literal(character, flags)) };
  }

  /** The one byte that an escape stands for, in brackets and out. */
  #byteEscape(character: string): string {
    const byte = BYTE_ESCAPES[character];
    if (byte !== undefined) return byte;
    const refused = REFUSED_ESCAPES[character];
    if (refused !== undefined) throw new Refusal(`uses ${refused} at byte ${this.#at - 1}`);
    if (/[1-9]/.test(character))
      throw new Refusal(`uses a backreference \`\\${character}\` at byte ${this.#at - 1}`);
    if (character === "0") return this.#numeric(/^[0-7]{0,2}/, 8);
    if (character === "x") {
      const braced = /^\{([0-9A-Fa-f]{1,4})\}/.exec(this.#rest(8));
      if (braced === null) return this.#numeric(/^[0-9A-Fa-f]{0,2}/, 16);
      const code = Number.parseInt(braced[1] ?? "", 16);
      if (code > 255) throw new Refusal(`names a character above \\x{ff} at byte ${this.#at - 1}`);
      this.#at += braced[0].length;
      return String.fromCharCode(code);
    }
    if (/[A-Za-z]/.test(character))
      throw new Refusal(`uses the unknown escape \`\\${character}\` at byte ${this.#at - 1}`);
    return character;
  }

  #numeric(form: RegExp, base: number): string {
    const digits = form.exec(this.#rest(4))?.[0] ?? "";
    this.#at += digits.length;
    return String.fromCharCode(digits === "" ? 0 : Number.parseInt(digits, base));
  }

  #brackets(flags: Flags): ByteSet {
    const open = this.#at;
    const negated = this.#take("^");
    let set = ByteSet.empty;
    for (let first = true; ; first = false) {
      if (this.#at >= this.#text.length) throw new Refusal(`has no \`]\` for the brackets at byte ${open}`);
      if (!first && this.#take("]")) break;
      const posix = /^\[:(\^?)([a-z]+):\]/.exec(this.#rest(16));
      if (posix !== null) {
        const named = POSIX_CLASSES[posix[2] ?? ""];
        if (named === undefined)
          throw new Refusal(`has an unknown class ${posix[0]} at byte ${this.#at + 1}`);
        this.#at += posix[0].length;
        set = set.union(posix[1] === "" ? named : named.complement());
        continue;
      }
      if (/^\[[.=]/.test(this.#rest(2)))
        throw new Refusal(`uses a collating element at byte ${this.#at + 1}`);
      const from = this.#bracketItem();
      if (from instanceof ByteSet) {
        set = set.union(from);
        continue;
      }
      // A `-` before the closing bracket is itself; so is one that follows or precedes a set.
      if (!this.#sees("-") || this.#text[this.#at + 1] === "]" || this.#at + 1 >= this.#text.length) {
        set = set.union(ByteSet.of(from));
        continue;
      }
      this.#at++;
      const to = this.#bracketItem();
      if (to instanceof ByteSet) {
        set = set.union(ByteSet.of(`${from}-`)).union(to);
        continue;
      }
      if (to.charCodeAt(0) < from.charCodeAt(0))
        throw new Refusal(`has a range out of order at byte ${this.#at}`);
      set = set.union(ByteSet.range(from.charCodeAt(0), to.charCodeAt(0)));
    }
    const folded = flags.ignoreCase ? set.foldCase() : set;
    return negated ? folded.complement() : folded;
  }

  #bracketItem(): string | ByteSet {
    const character = this.#next();
    if (character !== "\\") return character;
    if (this.#at >= this.#text.length) throw new Refusal("ends in a lone backslash");
    const escaped = this.#next();
    if (escaped === "b") return "\b";
    if (escaped === "N" || escaped === "Q" || escaped === "E") {
      throw new Refusal(`uses \`\\${escaped}\` in brackets at byte ${this.#at - 1}`);
    }
    return SET_ESCAPES[escaped] ?? this.#byteEscape(escaped);
  }

  #sees(character: string): boolean {
    return this.#text[this.#at] === character;
  }

  #take(character: string): boolean {
    if (!this.#sees(character)) return false;
    this.#at++;
    return true;
  }

  #next(): string {
    return this.#text[this.#at++] ?? "";
  }

  #rest(length: number): string {
    return this.#text.slice(this.#at, this.#at + length);
  }
}

function literal(character: string, flags: Flags): Syntax {
  const set = ByteSet.single(character.charCodeAt(0));
  return { kind: "bytes", set: flags.ignoreCase ? set.foldCase() : set };
}

function withFlags(flags: Flags, on: string, off: string): Flags {
  let { ignoreCase, dotAll } = flags;
  for (const [letters, value] of [
    [on, true],
    [off, false],
  ] as const) {
    for (const letter of letters) {
      if (letter === "i") ignoreCase = value;
      else if (letter === "s") dotAll = value;
      else throw new Refusal(`uses the flag \`(?${value ? "" : "-"}${letter})\`; only i and s are known`);
    }
  }
  return { ignoreCase, dotAll };
}

function expandedSize(syntax: Syntax): number {
  switch (syntax.kind) {
    case "bytes":
    case "assertion":
      return 1;
    case "capture":
      return expandedSize(syntax.item) + 1;
    case "sequence":
      return syntax.items.reduce((sum, item) => sum + expandedSize(item), 1);
    case "choice":
      return syntax.options.reduce((sum, item) => sum + expandedSize(item), 1);
    case "repeat": {
      const copies = syntax.max === Number.POSITIVE_INFINITY ? syntax.min + 1 : syntax.max;
      return expandedSize(syntax.item) * Math.max(1, copies) + 1;
    }
    default:
      return syntax satisfies never;
  }
}
