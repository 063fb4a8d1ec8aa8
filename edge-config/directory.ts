/**
 * The directory: which shard holds a host, found from the host's name alone.
 *
 * Hosts are spread by a 32-bit hash over a binary trie that is cut where shards would grow too large. A cut
 * of the trie is a list of bit prefixes, none of which begins another one; a prefix without hosts is left
 * out, so a host under it is known not to exist without a read.
 * Exact and wildcard hosts have a directory each: a request asks for `shop.example.com` in one and for
 * `*.example.com` in the other.
 *
 * Cutting depends on the hosts and the sizes of their records only, never on history, so equal
 * configurations have equal directories. The hash is no secret: somebody who may create hosts can aim many
 * at one prefix, which makes that prefix longer, and costs nobody else anything.
 */

/** A prefix of the hash in bits (`""` is everything) and what stands there. */
export type DirectoryEntry<T> = readonly [prefix: string, value: T];

const HASH_BITS = 32;

/** FNV-1a with Murmur3's finaliser, over UTF-16 code units: unsigned 32 bits. */
export function hostHash(host: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < host.length; at++) hash = Math.imul(hash ^ host.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * Cuts hosts, sorted by hash, into the fewest prefixes of which none weighs more than `maxWeight`.
 * Heavier ones remain only where hosts cannot be told apart: a single host, or equal hashes.
 */
export function cutDirectory<T extends { readonly hash: number; readonly weight: number }>(
  sorted: readonly T[],
  maxWeight: number,
): readonly DirectoryEntry<readonly T[]>[] {
  const entries: DirectoryEntry<readonly T[]>[] = [];
  const sums = new Float64Array(sorted.length + 1);
  sorted.forEach(({ weight }, at) => {
    sums[at + 1] = (sums[at] ?? 0) + weight;
  });
  /** `start`: the first hash under the prefix. */
  const cut = (from: number, to: number, prefix: string, start: number): void => {
    if (from === to) return;
    const weight = (sums[to] ?? 0) - (sums[from] ?? 0);
    if (weight <= maxWeight || to - from === 1 || prefix.length === HASH_BITS) {
      entries.push([prefix, sorted.slice(from, to)]);
      return;
    }
    const half = start + 2 ** (HASH_BITS - 1 - prefix.length);
    const middle = firstAtOrAfter(sorted, half, from, to);
    cut(from, middle, `${prefix}0`, start);
    cut(middle, to, `${prefix}1`, half);
  };
  cut(0, sorted.length, "", 0);
  return entries;
}

function firstAtOrAfter(
  sorted: readonly { readonly hash: number }[],
  hash: number,
  from: number,
  to: number,
): number {
  let low = from;
  let high = to;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle]?.hash ?? 0) < hash) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Finds values by hash in O(log n). Built once per pointer. */
export interface DirectoryIndex<T> {
  readonly find: (host: string) => T | undefined;
}

/** Throws a `RangeError` when a prefix is no bit string, stands out of order or begins another one. */
export function indexDirectory<T>(entries: readonly DirectoryEntry<T>[]): DirectoryIndex<T> {
  const starts = new Float64Array(entries.length);
  const ends = new Float64Array(entries.length);
  let end = 0;
  entries.forEach(([prefix], at) => {
    if (!/^[01]{0,32}$/.test(prefix))
      throw new RangeError(`${JSON.stringify(prefix)} is no prefix of a hash.`);
    const span = 2 ** (HASH_BITS - prefix.length);
    const start = prefix === "" ? 0 : Number.parseInt(prefix, 2) * span;
    if (start < end)
      throw new RangeError(`The prefix ${prefix} stands out of order or overlaps the one before it.`);
    end = start + span;
    starts[at] = start;
    ends[at] = end;
  });
  return {
    find: (host) => {
      const hash = hostHash(host);
      let low = 0;
      let high = entries.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if ((ends[middle] ?? 0) <= hash) low = middle + 1;
        else high = middle;
      }
      return low < entries.length && (starts[low] ?? 0) <= hash ? entries[low]?.[1] : undefined;
    },
  };
}
