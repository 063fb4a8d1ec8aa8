/** Sets of bytes (0–255), the alphabet of paths and headers as nginx's PCRE sees them. Immutable. */
export class ByteSet {
  static readonly empty = new ByteSet(new Uint32Array(8));
  static readonly all = new ByteSet(new Uint32Array(8).fill(0xffffffff));

  static readonly #singles: ByteSet[] = [];

  readonly #words: Uint32Array;
  #ranges: readonly (readonly [number, number])[] | undefined;
  #folded: ByteSet | undefined;

  private constructor(words: Uint32Array) {
    this.#words = words;
  }

  static range(first: number, last: number): ByteSet {
    const words = new Uint32Array(8);
    for (let byte = first; byte <= last; byte++)
      words[byte >> 5] = (words[byte >> 5] ?? 0) | (1 << (byte & 31));
    return new ByteSet(words);
  }

  /** One byte; the same object each time, so that what is worked out of a literal is worked out once. */
  static single(byte: number): ByteSet {
    let set = ByteSet.#singles[byte];
    if (set === undefined) {
      set = ByteSet.range(byte, byte);
      ByteSet.#singles[byte] = set;
    }
    return set;
  }

  /** The bytes of a Latin-1 string; a character beyond U+00FF is a bug of the caller. */
  static of(characters: string): ByteSet {
    const words = new Uint32Array(8);
    for (let i = 0; i < characters.length; i++) {
      const byte = characters.charCodeAt(i);
      words[byte >> 5] = (words[byte >> 5] ?? 0) | (1 << (byte & 31));
    }
    return new ByteSet(words);
  }

  has(byte: number): boolean {
    return ((this.#words[byte >> 5] ?? 0) & (1 << (byte & 31))) !== 0;
  }

  union(other: ByteSet): ByteSet {
    return new ByteSet(this.#words.map((word, i) => word | (other.#words[i] ?? 0)));
  }

  complement(): ByteSet {
    return new ByteSet(this.#words.map((word) => ~word));
  }

  without(other: ByteSet): ByteSet {
    return new ByteSet(this.#words.map((word, i) => word & ~(other.#words[i] ?? 0)));
  }

  isDisjointFrom(other: ByteSet): boolean {
    return this.#words.every((word, i) => (word & (other.#words[i] ?? 0)) === 0);
  }

  /** ASCII letters in both cases where either is in the set; bytes above 127 have no case (C locale, like nginx's PCRE). */
  foldCase(): ByteSet {
    this.#folded ??= this.#fold();
    return this.#folded;
  }

  #fold(): ByteSet {
    const words = this.#words.slice();
    for (let upper = 65; upper <= 90; upper++) {
      if (!this.has(upper) && !this.has(upper + 32)) continue;
      words[upper >> 5] = (words[upper >> 5] ?? 0) | (1 << (upper & 31));
      words[(upper + 32) >> 5] = (words[(upper + 32) >> 5] ?? 0) | (1 << ((upper + 32) & 31));
    }
    return new ByteSet(words);
  }

  /** Runs of consecutive bytes in ascending order, as inclusive `[first, last]` pairs. */
  ranges(): readonly (readonly [number, number])[] {
    this.#ranges ??= this.#findRanges();
    return this.#ranges;
  }

  #findRanges(): readonly (readonly [number, number])[] {
    const ranges: [number, number][] = [];
    for (let byte = 0; byte < 256; byte++) {
      if (!this.has(byte)) continue;
      const open = ranges.at(-1);
      if (open !== undefined && open[1] === byte - 1) open[1] = byte;
      else ranges.push([byte, byte]);
    }
    return ranges;
  }
}
