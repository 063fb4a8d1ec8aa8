/**
 * The quick reader: YAML as people and kubectl write manifests.
 *
 * In: the text of one document; every line ends with `\n`, the last one too. Out: its value, or undefined for "not for
 * me": anchors, aliases, tags, merge keys, complex keys, flow collections over several lines, most tabs, every mistake.
 * Those go to `full-reader.ts`, which is complete and some thirty times slower; there an error gets its words.
 * What this reader accepts, both read alike: `block-reader.test.ts` holds that over generated and mutated documents.
 *
 * Positions are offsets in the text; nothing is copied but keys and values. The time is linear in the text, whatever
 * it holds: no search runs past its line without remembering what it found.
 */

import { bareMap } from "./bare-map.ts";
import type { DuplicateKey } from "./document.ts";
import { keyOfPlainScalar, resolvePlainScalar } from "./plain-scalar.ts";

/** Deeper documents go to the full reader, which refuses them; Kubernetes objects stay below 30. */
const MAX_DEPTH = 100;

const TAB = 9;
const NEWLINE = 10;
const SPACE = 32;
const DOUBLE_QUOTE = 34;
const HASH = 35;
const SINGLE_QUOTE = 39;
const COMMA = 44;
const DASH = 45;
const COLON = 58;
const OPEN_BRACKET = 91;
const BACKSLASH = 92;
const CLOSE_BRACKET = 93;
const GREATER = 62;
const PIPE = 124;
const OPEN_BRACE = 123;
const CLOSE_BRACE = 125;

/** Characters that cannot begin a plain scalar here: indicators of YAML, and `-?:` whose meaning depends on what follows. */
const INDICATORS: ReadonlySet<number> = new Set([...",[]{}#&*!|>'\"%@`-?:"].map((c) => c.charCodeAt(0)));

/** More are not worth a warning each. */
const MAX_DUPLICATE_KEYS = 20;

/** Thrown inside this file only: the document is not for the quick reader. */
class NotForMe extends Error {}

export interface BlockReading {
  readonly value: unknown;
  readonly duplicateKeys: readonly DuplicateKey[];
}

/** Reads a document, or says undefined: then the full reader must. `firstLine` is the line of its first character. */
export function readBlockDocument(text: string, firstLine: number): BlockReading | undefined {
  const reader = new BlockReader(text, firstLine);
  try {
    return { value: reader.document(), duplicateKeys: reader.duplicateKeys };
  } catch (error) {
    if (error instanceof NotForMe) return undefined;
    throw error;
  }
}

const notForMe = new NotForMe("not for the quick reader");

class BlockReader {
  readonly duplicateKeys: DuplicateKey[] = [];
  readonly #text: string;
  readonly #firstLine: number;
  /** Where the next character to read stands. */
  #at = 0;
  /** Where the line of `#at` ends (its `\n`, or the end of the text). */
  #lineEnd = 0;
  /** Column of `#at` while it stands at the first character of a node; -1 after the last line. */
  #column = -1;
  #depth = 0;
  readonly #colons: NextOccurrence;
  readonly #comments: NextOccurrence;

  constructor(text: string, firstLine: number) {
    this.#text = text;
    this.#firstLine = firstLine;
    this.#colons = new NextOccurrence(text, ":");
    this.#comments = new NextOccurrence(text, " #");
  }

  document(): unknown {
    this.#startLine(0);
    if (this.#column < 0) return null;
    const first = this.#text.charCodeAt(this.#at);
    if (first === OPEN_BRACE || first === OPEN_BRACKET) {
      const value = this.#flow();
      this.#endOfNode();
      if (this.#column >= 0) throw notForMe;
      return value;
    }
    const value = this.#blockCollection(this.#column);
    if (this.#column >= 0) throw notForMe;
    return value;
  }

  /** Moves to the first line from `from` on that holds more than blanks and a comment. */
  #startLine(from: number): void {
    const text = this.#text;
    let start = from;
    while (start < text.length) {
      let at = start;
      while (text.charCodeAt(at) === SPACE) at++;
      const code = text.charCodeAt(at);
      if (code === TAB) throw notForMe;
      if (code === NEWLINE) {
        start = at + 1;
        continue;
      }
      if (at >= text.length) break;
      const newline = text.indexOf("\n", at);
      const end = newline < 0 ? text.length : newline;
      if (code === HASH) {
        start = end + 1;
        continue;
      }
      this.#at = at;
      this.#lineEnd = end;
      this.#column = at - start;
      return;
    }
    this.#at = text.length;
    this.#lineEnd = text.length;
    this.#column = -1;
  }

  /** After a value: only blanks and a comment may follow on the line. Moves to the next line with content. */
  #endOfNode(): void {
    const text = this.#text;
    let at = this.#at;
    while (text.charCodeAt(at) === SPACE) at++;
    if (at < this.#lineEnd && !(text.charCodeAt(at) === HASH && at > this.#at)) throw notForMe;
    this.#startLine(this.#lineEnd + 1);
  }

  /** A mapping or a sequence whose first entry stands at `#at`, in column `indent`. */
  #blockCollection(indent: number): unknown {
    if (++this.#depth > MAX_DEPTH) throw notForMe;
    const value = this.#atDash() ? this.#sequence(indent) : this.#mapping(indent);
    this.#depth--;
    return value;
  }

  /** True at `- ` or a `-` that ends its line. */
  #atDash(): boolean {
    const text = this.#text;
    if (text.charCodeAt(this.#at) !== DASH) return false;
    const next = this.#at + 1;
    return next >= this.#lineEnd || text.charCodeAt(next) === SPACE;
  }

  #sequence(indent: number): unknown[] {
    const list: unknown[] = [];
    while (this.#column === indent && this.#atDash()) {
      const dash = this.#at;
      let at = dash + 1;
      while (this.#text.charCodeAt(at) === SPACE) at++;
      const code = this.#text.charCodeAt(at);
      if (at >= this.#lineEnd || code === HASH) {
        this.#startLine(this.#lineEnd + 1);
        list.push(this.#column > indent ? this.#node(indent) : null);
        continue;
      }
      this.#at = at;
      this.#column = indent + (at - dash);
      list.push(this.#node(indent));
    }
    if (this.#column > indent) throw notForMe;
    return list;
  }

  /** Whatever stands at `#at` with nothing before it on its line but indentation and dashes. */
  #node(parentIndent: number): unknown {
    if (this.#atDash() || this.#atKey()) return this.#blockCollection(this.#column);
    return this.#inlineValue(parentIndent);
  }

  /** True where the rest of the line begins with `key:`; a quoted key counts as well. */
  #atKey(): boolean {
    const text = this.#text;
    const first = text.charCodeAt(this.#at);
    if (first === DOUBLE_QUOTE || first === SINGLE_QUOTE) {
      const end = this.#endOfQuoted(this.#at);
      if (end > this.#lineEnd) return false;
      let at = end;
      while (text.charCodeAt(at) === SPACE) at++;
      return text.charCodeAt(at) === COLON && at < this.#lineEnd;
    }
    if (INDICATORS.has(first)) return false;
    return this.#colonOfKey() >= 0;
  }

  /** Offset of the colon that ends the plain key at `#at`, or -1 where the line holds none. */
  #colonOfKey(): number {
    let colon = this.#colons.from(this.#at);
    while (colon < this.#lineEnd) {
      const next = this.#text.charCodeAt(colon + 1);
      if (next === SPACE || next === NEWLINE) return this.#comments.from(this.#at) < colon ? -1 : colon;
      if (next === TAB) throw notForMe;
      colon = this.#colons.from(colon + 1);
    }
    return -1;
  }

  #mapping(indent: number): Record<string, unknown> {
    const map = bareMap<unknown>();
    while (this.#column === indent) {
      const start = this.#at;
      const key = this.#key();
      // `#key` leaves `#at` behind the colon.
      if (map[key] !== undefined) this.#noteDuplicate(start, key);
      map[key] = this.#valueOfKey(indent);
    }
    if (this.#column > indent) throw notForMe;
    return map;
  }

  #key(): string {
    const text = this.#text;
    const first = text.charCodeAt(this.#at);
    if (first === DOUBLE_QUOTE || first === SINGLE_QUOTE) {
      const end = this.#endOfQuoted(this.#at);
      if (end > this.#lineEnd) throw notForMe;
      const key = this.#quoted(end);
      while (text.charCodeAt(this.#at) === SPACE) this.#at++;
      if (text.charCodeAt(this.#at) !== COLON) throw notForMe;
      this.#at++;
      const next = text.charCodeAt(this.#at);
      if (this.#at < this.#lineEnd && next !== SPACE) throw notForMe;
      return key;
    }
    if (INDICATORS.has(first)) throw notForMe;
    const colon = this.#colonOfKey();
    if (colon < 0) throw notForMe;
    const word = text.slice(this.#at, endWithoutSpaces(text, colon));
    if (word.includes("\t") || word === "<<") throw notForMe;
    const key = keyOfPlainScalar(word);
    if (key === undefined) throw notForMe;
    this.#at = colon + 1;
    return key;
  }

  #valueOfKey(indent: number): unknown {
    const text = this.#text;
    let at = this.#at;
    while (text.charCodeAt(at) === SPACE) at++;
    if (at >= this.#lineEnd || (text.charCodeAt(at) === HASH && at > this.#at)) {
      this.#startLine(this.#lineEnd + 1);
      if (this.#column > indent) return this.#node(indent);
      // A sequence may stand in the column of the key that it belongs to.
      if (this.#column === indent && this.#atDash()) {
        if (++this.#depth > MAX_DEPTH) throw notForMe;
        const list = this.#sequence(indent);
        this.#depth--;
        return list;
      }
      return null;
    }
    this.#at = at;
    return this.#inlineValue(indent);
  }

  /** A scalar or a flow collection at `#at`; `indent` is the column of the collection that holds it. */
  #inlineValue(indent: number): unknown {
    switch (this.#text.charCodeAt(this.#at)) {
      case DOUBLE_QUOTE:
      case SINGLE_QUOTE: {
        const value = this.#quotedOverLines(indent);
        this.#endOfNode();
        return value;
      }
      case PIPE:
      case GREATER:
        return this.#blockScalar(indent);
      case OPEN_BRACE:
      case OPEN_BRACKET: {
        const value = this.#flow();
        this.#endOfNode();
        return value;
      }
      default:
        return this.#plain(indent);
    }
  }

  #plain(indent: number): unknown {
    const first = this.#text.charCodeAt(this.#at);
    // `-5` and `-x` are plain; `- x`, `? x` and the other indicators are not.
    const dashWord = first === DASH && this.#text.charCodeAt(this.#at + 1) > SPACE;
    if (!dashWord && INDICATORS.has(first)) throw notForMe;
    let words = this.#plainLine();
    let end = this.#at;
    this.#startLine(this.#lineEnd + 1);
    // Deeper lines go on with the scalar.
    while (this.#column > indent) {
      if (INDICATORS.has(this.#text.charCodeAt(this.#at))) throw notForMe;
      const breaks = this.#breaksBetween(end, this.#at);
      words += foldedBreaks(breaks) + this.#plainLine();
      end = this.#at;
      this.#startLine(this.#lineEnd + 1);
    }
    return resolvePlainScalar(words);
  }

  /** The rest of the line as part of a plain scalar, without its comment. Leaves `#at` behind the last word. */
  #plainLine(): string {
    const start = this.#at;
    this.#at = endWithoutSpaces(this.#text, Math.min(this.#comments.from(start), this.#lineEnd));
    const words = this.#text.slice(start, this.#at);
    if (words.includes(": ") || words.endsWith(":") || words.includes("\t")) throw notForMe;
    return words;
  }

  /** Line breaks from one line of a plain scalar to the next. A comment between them ends the scalar; the rest is an error. */
  #breaksBetween(end: number, next: number): number {
    let breaks = 0;
    for (let at = end; at < next; at++) {
      const code = this.#text.charCodeAt(at);
      if (code === NEWLINE) breaks++;
      else if (code !== SPACE) throw notForMe;
    }
    return breaks;
  }

  /** Offset behind the closing quote of the scalar at `start`; beyond the text where it never closes. */
  #endOfQuoted(start: number): number {
    const text = this.#text;
    const quote = text.charCodeAt(start);
    if (quote === DOUBLE_QUOTE) {
      for (let at = start + 1; at < text.length; at++) {
        const code = text.charCodeAt(at);
        if (code === DOUBLE_QUOTE) return at + 1;
        if (code === BACKSLASH) at++;
      }
      throw notForMe;
    }
    let at = text.indexOf("'", start + 1);
    while (at >= 0 && text.charCodeAt(at + 1) === SINGLE_QUOTE) at = text.indexOf("'", at + 2);
    if (at < 0) throw notForMe;
    return at + 1;
  }

  /** The quoted scalar from `#at` to `end`, within one line. Leaves `#at` behind it. */
  #quoted(end: number): string {
    const text = this.#text;
    const quote = text.charCodeAt(this.#at);
    const inner = text.slice(this.#at + 1, end - 1);
    this.#at = end;
    if (quote === SINGLE_QUOTE) return inner.includes("''") ? inner.replaceAll("''", "'") : inner;
    return inner.includes("\\") ? unescapeDoubleQuoted(inner) : inner;
  }

  #quotedOverLines(indent: number): string {
    const end = this.#endOfQuoted(this.#at);
    if (end <= this.#lineEnd) return this.#quoted(end);
    const text = this.#text;
    const single = text.charCodeAt(this.#at) === SINGLE_QUOTE;
    const inner = text.slice(this.#at + 1, end - 1);
    // Tabs and escapes at line ends fold by rules of their own.
    if (inner.includes("\t")) throw notForMe;
    const lines = inner.split("\n");
    const first = lines[0] ?? "";
    const parts = [first.slice(0, endWithoutSpaces(first, first.length))];
    let blank = 0;
    for (let i = 1; i < lines.length; i++) {
      const line = lines[i] ?? "";
      const last = i === lines.length - 1;
      let start = 0;
      while (line.charCodeAt(start) === SPACE) start++;
      if (parts.at(-1)?.endsWith("\\")) throw notForMe;
      if (start === line.length && !last) {
        blank++;
        continue;
      }
      if (start <= indent) throw notForMe;
      parts.push(
        blank > 0 ? "\n".repeat(blank) : " ",
        line.slice(start, last ? line.length : endWithoutSpaces(line, line.length)),
      );
      blank = 0;
    }
    this.#at = end;
    this.#lineEnd = text.indexOf("\n", end);
    const folded = parts.join("");
    if (single) return folded.replaceAll("''", "'");
    return folded.includes("\\") ? unescapeDoubleQuoted(folded) : folded;
  }

  /** `|` or `>`, with `-` or `+`; an indentation digit or a comment behind it is for the full reader. */
  #blockScalar(indent: number): string {
    const text = this.#text;
    const folded = text.charCodeAt(this.#at) === GREATER;
    const header = text.slice(this.#at + 1, endWithoutSpaces(text, this.#lineEnd));
    if (header !== "" && header !== "-" && header !== "+") throw notForMe;
    const parts: string[] = [];
    let width = -1;
    let blank = 0;
    let start = this.#lineEnd + 1;
    while (start < text.length) {
      const end = text.indexOf("\n", start);
      let at = start;
      while (text.charCodeAt(at) === SPACE) at++;
      const spaces = at - start;
      if (at >= end && (width < 0 || spaces <= width)) {
        // Blanks before the first line may be wider than it; which reader minds differs.
        if (width < 0 && spaces > 0) throw notForMe;
        blank++;
        start = end + 1;
        continue;
      }
      if (width < 0 ? spaces <= indent : spaces < width) {
        if (spaces > indent || text.charCodeAt(at) === TAB) throw notForMe;
        break;
      }
      if (width < 0) {
        if (text.charCodeAt(at) === TAB) throw notForMe;
        width = spaces;
      }
      // Lines that are further in keep their breaks in a folded scalar, by rules that are worth no second copy here.
      if (folded && (spaces > width || text.charCodeAt(at) === TAB)) throw notForMe;
      if (blank > 0) parts.push(folded && parts.length > 0 ? foldedBreaks(blank) : "\n".repeat(blank));
      parts.push(text.slice(start + width, end));
      blank = 1;
      start = end + 1;
    }
    // A scalar of nothing but line breaks is too rare to know here how many of them count.
    if (width < 0) throw notForMe;
    this.#startLine(start);
    if (this.#column > indent) throw notForMe;
    if (header === "") parts.push("\n");
    else if (header === "+") parts.push("\n".repeat(blank));
    return parts.join("");
  }

  /** A flow collection within one line. */
  #flow(): unknown {
    if (++this.#depth > MAX_DEPTH) throw notForMe;
    const open = this.#text.charCodeAt(this.#at);
    this.#at++;
    const value = open === OPEN_BRACKET ? this.#flowSequence() : this.#flowMapping();
    this.#depth--;
    return value;
  }

  #flowSequence(): unknown[] {
    const list: unknown[] = [];
    for (;;) {
      if (this.#flowToken() === CLOSE_BRACKET) {
        this.#at++;
        return list;
      }
      list.push(this.#flowValue());
      if (this.#flowToken() === COMMA) this.#at++;
      else if (this.#flowToken() !== CLOSE_BRACKET) throw notForMe;
    }
  }

  #flowMapping(): Record<string, unknown> {
    const map = bareMap<unknown>();
    for (;;) {
      const first = this.#flowToken();
      if (first === CLOSE_BRACE) {
        this.#at++;
        return map;
      }
      const start = this.#at;
      const key = this.#flowKey(first);
      if (map[key] !== undefined) this.#noteDuplicate(start, key);
      if (this.#flowToken() !== COLON) throw notForMe;
      this.#at++;
      const next = this.#text.charCodeAt(this.#at);
      if (next !== SPACE) throw notForMe;
      const value = this.#flowToken();
      if (value === COMMA || value === CLOSE_BRACE) throw notForMe;
      map[key] = this.#flowValue();
      if (this.#flowToken() === COMMA) this.#at++;
      else if (this.#flowToken() !== CLOSE_BRACE) throw notForMe;
    }
  }

  #flowKey(first: number): string {
    if (first === DOUBLE_QUOTE || first === SINGLE_QUOTE) {
      const end = this.#endOfQuoted(this.#at);
      if (end > this.#lineEnd) throw notForMe;
      return this.#quoted(end);
    }
    const word = this.#flowPlain();
    const key = word === "<<" ? undefined : keyOfPlainScalar(word);
    if (key === undefined) throw notForMe;
    return key;
  }

  /** The next character that is no blank, within the line. */
  #flowToken(): number {
    while (this.#text.charCodeAt(this.#at) === SPACE) this.#at++;
    if (this.#at >= this.#lineEnd) throw notForMe;
    return this.#text.charCodeAt(this.#at);
  }

  #flowValue(): unknown {
    switch (this.#flowToken()) {
      case OPEN_BRACE:
      case OPEN_BRACKET:
        return this.#flow();
      case DOUBLE_QUOTE:
      case SINGLE_QUOTE: {
        const end = this.#endOfQuoted(this.#at);
        if (end > this.#lineEnd) throw notForMe;
        return this.#quoted(end);
      }
      default:
        return resolvePlainScalar(this.#flowPlain());
    }
  }

  /** A plain scalar of a flow collection: up to `,`, a bracket or the colon of a key. */
  #flowPlain(): string {
    const text = this.#text;
    const start = this.#at;
    const first = text.charCodeAt(start);
    if (INDICATORS.has(first)) throw notForMe;
    let at = start;
    for (; at < this.#lineEnd; at++) {
      const code = text.charCodeAt(at);
      if (code === COMMA || code === CLOSE_BRACKET || code === CLOSE_BRACE) break;
      if (code === OPEN_BRACKET || code === OPEN_BRACE || code === TAB || code === HASH) throw notForMe;
      if (code === COLON) {
        const next = text.charCodeAt(at + 1);
        if (next === SPACE) break;
        if (next === COMMA || next === CLOSE_BRACKET || next === CLOSE_BRACE) throw notForMe;
      }
    }
    this.#at = at;
    return text.slice(start, endWithoutSpaces(text, at));
  }

  #noteDuplicate(offset: number, key: string): void {
    if (this.duplicateKeys.length < MAX_DUPLICATE_KEYS)
      this.duplicateKeys.push({ line: this.#lineOf(offset), key });
  }

  #lineOf(offset: number): number {
    let line = this.#firstLine;
    for (let at = this.#text.indexOf("\n"); at >= 0 && at < offset; at = this.#text.indexOf("\n", at + 1))
      line++;
    return line;
  }
}

/** Finds a needle again and again, going forward, without looking twice at any stretch of the text. */
class NextOccurrence {
  readonly #text: string;
  readonly #needle: string;
  #searchedFrom = 0;
  #found = -1;

  constructor(text: string, needle: string) {
    this.#text = text;
    this.#needle = needle;
  }

  /** Offset of the first occurrence at or behind `at`; beyond every line where there is none. */
  from(at: number): number {
    if (this.#found < at || this.#searchedFrom > at) {
      const found = this.#text.indexOf(this.#needle, at);
      this.#found = found < 0 ? Number.POSITIVE_INFINITY : found;
      this.#searchedFrom = at;
    }
    return this.#found;
  }
}

/** One line break between lines of a folded scalar is a space; of several, one goes. */
function foldedBreaks(count: number): string {
  return count === 1 ? " " : "\n".repeat(count - 1);
}

/** `end`, moved back over the spaces before it. */
function endWithoutSpaces(text: string, end: number): number {
  let at = end;
  while (at > 0 && text.charCodeAt(at - 1) === SPACE) at--;
  return at;
}

/** The inside of a double-quoted scalar. Escapes that JSON does not know are for the full reader. */
function unescapeDoubleQuoted(inner: string): string {
  if (/\\[^"\\/bfnrtu]|\\u(?![0-9a-fA-F]{4})|[^ -\ufffd]/.test(inner)) throw notForMe;
  return JSON.parse(`"${inner.replaceAll("\n", "\\n")}"`) as string;
}
