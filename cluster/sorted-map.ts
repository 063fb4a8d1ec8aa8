/**
 * A map in order of its keys that is never changed: another one is made from it, and shares with it all that is the same.
 *
 * One changed entry of 10 000 costs a copy of the few hundred around it, where a copied `Map` costs milliseconds and half
 * a megabyte of garbage each time; and what differs between two such maps is found without looking at what they share.
 *
 * Entries stand in chunks, keys in order of their UTF-16 code units (JavaScript's `<`).
 */

interface Chunk<V> {
  readonly keys: readonly string[];
  readonly values: readonly V[];
}

/** A chunk that grows beyond it is cut in two; half of it is about what a change copies. */
const MAX_CHUNK = 256;

export class SortedMap<K extends string, V> implements ReadonlyMap<K, V> {
  readonly size: number;
  readonly #chunks: readonly Chunk<V>[];

  private constructor(chunks: readonly Chunk<V>[], size: number) {
    this.#chunks = chunks;
    this.size = size;
  }

  /** Of equal keys the last one counts. */
  static from<K extends string, V>(entries: Iterable<readonly [K, V]>): SortedMap<K, V> {
    const map = new Map(entries);
    const keys = [...map.keys()].sort();
    const chunks: Chunk<V>[] = [];
    for (let at = 0; at < keys.length; at += MAX_CHUNK / 2) {
      const some = keys.slice(at, at + MAX_CHUNK / 2);
      chunks.push({ keys: some, values: some.map((key) => map.get(key) as V) });
    }
    return new SortedMap(chunks, keys.length);
  }

  /** With these entries put; `undefined` takes a key out. The very same map when nothing is another than before. */
  with(changes: ReadonlyMap<K, V | undefined>): SortedMap<K, V> {
    // Many changes are cheaper by building anew than by copying one chunk after the other.
    if (changes.size > Math.max(8, this.size / 8)) return this.#rebuilt(changes);
    let chunks: Chunk<V>[] | undefined;
    let size = this.size;
    for (const [key, value] of changes) {
      const now = chunks ?? this.#chunks;
      const at = chunkFor(now, key);
      const chunk = now[at];
      const index = chunk === undefined ? -1 : indexOf(chunk.keys, key);
      if (chunk !== undefined && index >= 0 && chunk.values[index] === value) continue;
      if (index < 0 && value === undefined) continue;
      chunks ??= this.#chunks.slice();
      const next = changed(chunk, index, key, value);
      size += index >= 0 ? (value === undefined ? -1 : 0) : 1;
      chunks.splice(at, chunk === undefined ? 0 : 1, ...next);
    }
    return chunks === undefined ? this : new SortedMap(chunks, size);
  }

  #rebuilt(changes: ReadonlyMap<K, V | undefined>): SortedMap<K, V> {
    const map = new Map<K, V>(this);
    let isSame = true;
    for (const [key, value] of changes) {
      if (map.get(key) === value) continue;
      isSame = false;
      if (value === undefined) map.delete(key);
      else map.set(key, value);
    }
    return isSame ? this : SortedMap.from(map);
  }

  get(key: K): V | undefined {
    const chunk = this.#chunks[chunkFor(this.#chunks, key)];
    if (chunk === undefined) return undefined;
    const index = indexOf(chunk.keys, key);
    return index < 0 ? undefined : chunk.values[index];
  }

  has(key: K): boolean {
    const chunk = this.#chunks[chunkFor(this.#chunks, key)];
    return chunk !== undefined && indexOf(chunk.keys, key) >= 0;
  }

  /** The keys whose values are not the very same in `before`, those that are in one of the two only included. */
  *changedSince(before: SortedMap<K, V>): Iterable<K> {
    if (before === this) return;
    const shared = new Set(this.#chunks);
    const gone = before.#chunks.filter((chunk) => !shared.delete(chunk));
    // What is left of ours stands in no chunk of theirs, so it is compared with what is left of theirs.
    const old = new Map<string, V>();
    for (const { keys, values } of gone) keys.forEach((key, at) => void old.set(key, values[at] as V));
    for (const { keys, values } of shared) {
      for (let at = 0; at < keys.length; at++) {
        const key = keys[at] as K;
        if (!old.has(key) || old.get(key) !== values[at]) yield key;
        old.delete(key);
      }
    }
    yield* old.keys() as Iterable<K>;
  }

  forEach(callback: (value: V, key: K, map: ReadonlyMap<K, V>) => void): void {
    for (const [key, value] of this.entries()) callback(value, key, this);
  }

  *entries(): MapIterator<[K, V]> {
    for (const { keys, values } of this.#chunks)
      for (let at = 0; at < keys.length; at++) yield [keys[at] as K, values[at] as V];
  }

  *keys(): MapIterator<K> {
    for (const { keys } of this.#chunks) yield* keys as readonly K[];
  }

  *values(): MapIterator<V> {
    for (const { values } of this.#chunks) yield* values;
  }

  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.entries();
  }
}

/**
 * The keys whose values are not the very same in both maps, those that are in one of the two only included. Of two
 * `SortedMap`s what they share is passed over; of any others, all of it is looked at.
 */
export function* changedKeys<K extends string, V>(
  before: ReadonlyMap<K, V>,
  now: ReadonlyMap<K, V>,
): Iterable<K> {
  if (before === now) return;
  if (before instanceof SortedMap && now instanceof SortedMap) {
    yield* (now as SortedMap<K, V>).changedSince(before as SortedMap<K, V>);
    return;
  }
  for (const [key, value] of now) if (!before.has(key) || before.get(key) !== value) yield key;
  for (const key of before.keys()) if (!now.has(key)) yield key;
}

/** Of all chunks the last one that does not begin after the key; the first one for a key before all. */
function chunkFor<V>(chunks: readonly Chunk<V>[], key: string): number {
  let low = 0;
  let high = chunks.length;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if ((chunks[middle]?.keys[0] ?? "") <= key) low = middle;
    else high = middle;
  }
  return low;
}

/** Its index; or, where the key is missing, the one's complement of the place where it belongs. */
function indexOf(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as string) < key) low = middle + 1;
    else high = middle;
  }
  return keys[low] === key ? low : ~low;
}

/** The chunk after one change: none when it is empty, two when it has grown too large. */
function changed<V>(
  chunk: Chunk<V> | undefined,
  index: number,
  key: string,
  value: V | undefined,
): readonly Chunk<V>[] {
  if (chunk === undefined) return value === undefined ? [] : [{ keys: [key], values: [value] }];
  if (index >= 0 && value !== undefined)
    return [{ keys: chunk.keys, values: chunk.values.with(index, value) }];
  const keys = chunk.keys.slice();
  const values = chunk.values.slice();
  if (value === undefined) {
    keys.splice(index, 1);
    values.splice(index, 1);
    return keys.length === 0 ? [] : [{ keys, values }];
  }
  keys.splice(~index, 0, key);
  values.splice(~index, 0, value);
  if (keys.length <= MAX_CHUNK) return [{ keys, values }];
  const half = keys.length >>> 1;
  return [
    { keys: keys.slice(0, half), values: values.slice(0, half) },
    { keys: keys.slice(half), values: values.slice(half) },
  ];
}
