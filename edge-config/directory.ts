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

/** Something that a host has, at the place of the host's hash. */
export interface HostItem {
  readonly host: string;
  /** `hostHash(host)` */
  readonly hash: number;
  readonly weight: number;
}

/**
 * Hosts spread by their hashes over the fewest prefixes of which none weighs more than a bound. Heavier ones remain only
 * where hosts cannot be told apart: a single host, or equal hashes. Never changed; absent where there is no host.
 */
export type HostTrie<T extends HostItem> = HostLeaf<T> | HostFork<T>;

export interface HostLeaf<T extends HostItem> {
  readonly kind: "leaf";
  readonly prefix: string;
  readonly weight: number;
  /** By hash, then by host. */
  readonly items: readonly T[];
}

interface HostFork<T extends HostItem> {
  readonly kind: "fork";
  readonly prefix: string;
  readonly weight: number;
  readonly low: HostTrie<T> | undefined;
  readonly high: HostTrie<T> | undefined;
}

/** An item in the place of whatever its host had before; absent: the host is gone. */
export interface HostChange<T extends HostItem> {
  readonly host: string;
  readonly item: T | undefined;
}

/**
 * The trie with these changes, each host once: the very one that all of its hosts would have made anew. Leaves without a
 * change are the very same; one change looks at one leaf.
 */
export function changeTrie<T extends HostItem>(
  trie: HostTrie<T> | undefined,
  changes: readonly HostChange<T>[],
  maxWeight: number,
): HostTrie<T> | undefined {
  const sorted = changes.map((change) => ({ ...change, hash: hostHash(change.host) })).sort(byPlace);
  return change(trie, sorted, "", maxWeight);
}

type PlacedChange<T extends HostItem> = HostChange<T> & { readonly hash: number };

function change<T extends HostItem>(
  trie: HostTrie<T> | undefined,
  changes: readonly PlacedChange<T>[],
  prefix: string,
  maxWeight: number,
): HostTrie<T> | undefined {
  if (changes.length === 0) return trie;
  if (trie === undefined || trie.kind === "leaf")
    return grow(mergeItems(trie?.items ?? [], changes), prefix, maxWeight);
  const middle = firstAtOrAfter(changes, middleOf(prefix));
  const low = change(trie.low, changes.slice(0, middle), `${prefix}0`, maxWeight);
  const high = change(trie.high, changes.slice(middle), `${prefix}1`, maxWeight);
  const weight = (low?.weight ?? 0) + (high?.weight ?? 0);
  if (weight > maxWeight) {
    const fork: HostFork<T> = { kind: "fork", prefix, weight, low, high };
    // A single heavy host needs no fork.
    const [first, second] = leavesOf(fork);
    if (second !== undefined || (first?.items.length ?? 0) > 1) return fork;
  }
  return grow([...itemsOf(low), ...itemsOf(high)], prefix, maxWeight);
}

/** From items in order, which all stand under the prefix. */
function grow<T extends HostItem>(
  items: readonly T[],
  prefix: string,
  maxWeight: number,
): HostTrie<T> | undefined {
  if (items.length === 0) return undefined;
  let weight = 0;
  for (const item of items) weight += item.weight;
  if (weight <= maxWeight || items.length === 1 || prefix.length === HASH_BITS)
    return { kind: "leaf", prefix, weight, items };
  const middle = firstAtOrAfter(items, middleOf(prefix));
  const low = grow(items.slice(0, middle), `${prefix}0`, maxWeight);
  const high = grow(items.slice(middle), `${prefix}1`, maxWeight);
  return { kind: "fork", prefix, weight, low, high };
}

function mergeItems<T extends HostItem>(
  items: readonly T[],
  changes: readonly PlacedChange<T>[],
): readonly T[] {
  const merged: T[] = [];
  let at = 0;
  for (const changed of changes) {
    for (let item = items[at]; item !== undefined && byPlace(item, changed) < 0; item = items[++at])
      merged.push(item);
    if (items[at]?.host === changed.host) at++;
    if (changed.item !== undefined) merged.push(changed.item);
  }
  for (; at < items.length; at++) merged.push(items[at] as T);
  return merged;
}

/** Leaves in order of their prefixes. */
export function* leavesOf<T extends HostItem>(trie: HostTrie<T> | undefined): Iterable<HostLeaf<T>> {
  if (trie === undefined) return;
  if (trie.kind === "leaf") yield trie;
  else {
    yield* leavesOf(trie.low);
    yield* leavesOf(trie.high);
  }
}

/** What a host has. */
export function itemOf<T extends HostItem>(trie: HostTrie<T> | undefined, host: string): T | undefined {
  const hash = hostHash(host);
  let node = trie;
  while (node?.kind === "fork") node = hash < middleOf(node.prefix) ? node.low : node.high;
  if (node === undefined) return undefined;
  const { items } = node;
  for (let at = firstAtOrAfter(items, hash); items[at]?.hash === hash; at++)
    if (items[at]?.host === host) return items[at];
  return undefined;
}

function* itemsOf<T extends HostItem>(trie: HostTrie<T> | undefined): Iterable<T> {
  for (const { items } of leavesOf(trie)) yield* items;
}

/** The first hash under the upper half of a prefix. */
function middleOf(prefix: string): number {
  const start = prefix === "" ? 0 : Number.parseInt(prefix, 2) * 2 ** (HASH_BITS - prefix.length);
  return start + 2 ** (HASH_BITS - 1 - prefix.length);
}

interface Placed {
  readonly host: string;
  readonly hash: number;
}

function byPlace(left: Placed, right: Placed): number {
  return left.hash - right.hash || (left.host < right.host ? -1 : left.host > right.host ? 1 : 0);
}

function firstAtOrAfter(sorted: readonly { readonly hash: number }[], hash: number): number {
  let low = 0;
  let high = sorted.length;
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
