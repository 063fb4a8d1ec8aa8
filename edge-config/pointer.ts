/**
 * The pointer: the one small value in KV that says which shards are the configuration now. It is written
 * last, so whoever reads it finds the shards that it names.
 *
 * In: a directory of shards with its generation. Out: the text, signed if there are keys, and back.
 * Not here: when it is written (`control/kv/publish.ts`), when a Worker adopts it.
 *
 * Signature: HMAC-SHA-256 over the JSON text without its last member, which is `signature`. Checking the
 * very bytes that came spares us a canonical form of JSON. A pointer names shards by their hashes, so its
 * signature covers the whole configuration.
 */

import { ANY_HOST, EDGE_CONFIG_VERSION } from "./config.ts";
import type { ConfigKeys } from "./config-keys.ts";
import { type DirectoryEntry, type DirectoryIndex, indexDirectory } from "./directory.ts";
import { asciiJson } from "./host-record.ts";
import type { EdgePolicies } from "./policies.ts";
import { isShardName, type ShardName } from "./shard.ts";

/** Key of the pointer in KV. */
export const POINTER_KEY = "pointer";

/**
 * Where every host stands, and what holds for all of them. Two configurations are the same if and only if
 * their directories are.
 */
export interface ShardDirectory {
  /**
   * The clusters whose states this was made of, sorted; absent where there is only one, without a name. A
   * control service that was restarted waits for all of them before it publishes.
   */
  readonly clusters?: readonly string[];
  /** They hold no secrets: they come from the controller's ConfigMap alone. */
  readonly policies?: EdgePolicies;
  readonly exact: readonly DirectoryEntry<ShardName>[];
  /** Keyed by the whole name, `*.example.com`. */
  readonly wildcard: readonly DirectoryEntry<ShardName>[];
  /** The shard that holds `ANY_HOST` and nothing else. */
  readonly any?: ShardName;
}

export interface Pointer extends ShardDirectory {
  readonly version: typeof EDGE_CONFIG_VERSION;
  /** Counts publications, from 1. For people; order is told by `supersedes`. */
  readonly generation: number;
  /** The term of the leader that wrote it (0 without election). A higher one wins whatever its time. */
  readonly epoch: number;
  /** RFC 3339 with milliseconds, UTC. Within an epoch it always grows. */
  readonly createdAt: string;
}

/** A pointer, checked and ready for look-ups. */
export interface LoadedPointer {
  readonly pointer: Pointer;
  /** The shards that a request for this host needs: one bulk read. Absent ones cannot hold it. */
  readonly locate: (host: string) => HostShards;
}

/** Keys to ask, in the order of precedence. */
export interface HostShards {
  /** Look for the host itself. */
  readonly exact?: ShardName;
  /** Look for `wildcardOf(host)`. */
  readonly wildcard?: ShardName;
  /** Look for `ANY_HOST`. */
  readonly any?: ShardName;
}

export type PointerReading =
  | { readonly kind: "pointer"; readonly loaded: LoadedPointer }
  /** The reason is a clause for a log line. */
  | { readonly kind: "refused"; readonly reason: string };

/** `shop.example.com` → `*.example.com`; `undefined` for a name without a dot. A wildcard stands for one label. */
export function wildcardOf(host: string): string | undefined {
  const dot = host.indexOf(".");
  return dot <= 0 ? undefined : `*${host.slice(dot)}`;
}

export const HOST_KINDS = ["exact", "wildcard", "any"] as const;

export type HostKind = (typeof HOST_KINDS)[number];

export function hostKind(host: string): HostKind {
  if (host === ANY_HOST) return "any";
  return host.startsWith("*.") ? "wildcard" : "exact";
}

export async function encodePointer(pointer: Pointer, keys: ConfigKeys | undefined): Promise<string> {
  const { version, generation, epoch, createdAt, clusters, policies, exact, wildcard, any } = pointer;
  const text = asciiJson({
    version,
    generation,
    epoch,
    createdAt,
    clusters,
    policies,
    exact,
    wildcard,
    any,
  });
  if (keys === undefined) return text;
  return `${text.slice(0, -1)},"signature":"${await keys.sign(text)}"}`;
}

const SIGNATURE = /,"signature":"([A-Za-z0-9_-]{43})"\}$/;

/**
 * Checks and reads a pointer. With keys, an unsigned or forged one is refused; without, a signature is
 * ignored. Never throws.
 */
export async function decodePointer(text: string, keys: ConfigKeys | undefined): Promise<PointerReading> {
  if (keys !== undefined) {
    const signature = SIGNATURE.exec(text);
    if (signature?.[1] === undefined)
      return { kind: "refused", reason: "the pointer is not signed, and FAIRLEAD_CONFIG_KEY asks for it" };
    if (!(await keys.verify(`${text.slice(0, signature.index)}}`, signature[1]))) {
      return { kind: "refused", reason: "the pointer's signature is not by FAIRLEAD_CONFIG_KEY" };
    }
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { kind: "refused", reason: "the pointer is no JSON" };
  }
  if (typeof value !== "object" || value === null)
    return { kind: "refused", reason: "the pointer is no object" };
  const { version, generation, epoch, createdAt, clusters, policies, exact, wildcard, any } = value as Record<
    string,
    unknown
  >;
  if (version !== EDGE_CONFIG_VERSION) {
    return {
      kind: "refused",
      reason: `the pointer has version ${String(version)}, this reader knows ${EDGE_CONFIG_VERSION}`,
    };
  }
  if (!isCount(generation) || !isCount(epoch))
    return { kind: "refused", reason: "the pointer's generation or epoch is no count" };
  if (typeof createdAt !== "string" || Number.isNaN(Date.parse(createdAt))) {
    return { kind: "refused", reason: "the pointer's createdAt is no time" };
  }
  if (
    !isDirectory(exact) ||
    !isDirectory(wildcard) ||
    !(any === undefined || (typeof any === "string" && isShardName(any)))
  ) {
    return { kind: "refused", reason: "the pointer's directory is malformed" };
  }
  if (policies !== undefined && (typeof policies !== "object" || policies === null)) {
    return { kind: "refused", reason: "the pointer's policies are no object" };
  }
  if (
    clusters !== undefined &&
    !(Array.isArray(clusters) && clusters.every((name) => typeof name === "string"))
  ) {
    return { kind: "refused", reason: "the pointer's clusters are no names" };
  }
  const pointer: Pointer = {
    ...(clusters === undefined ? {} : { clusters: clusters as string[] }),
    ...(policies === undefined ? {} : { policies }),
    version,
    generation,
    epoch,
    createdAt,
    exact,
    wildcard,
    ...(any === undefined ? {} : { any }),
  };
  try {
    return { kind: "pointer", loaded: loadPointer(pointer) };
  } catch (error) {
    return { kind: "refused", reason: `the pointer's directory is malformed: ${(error as Error).message}` };
  }
}

/** Throws a `RangeError` for a directory whose prefixes are no trie. */
export function loadPointer(pointer: Pointer): LoadedPointer {
  const exact: DirectoryIndex<ShardName> = indexDirectory(pointer.exact);
  const wildcard: DirectoryIndex<ShardName> = indexDirectory(pointer.wildcard);
  return {
    pointer,
    locate: (host) => {
      const exactShard = exact.find(host);
      const parent = wildcardOf(host);
      const wildcardShard = parent === undefined ? undefined : wildcard.find(parent);
      return {
        ...(exactShard === undefined ? {} : { exact: exactShard }),
        ...(wildcardShard === undefined ? {} : { wildcard: wildcardShard }),
        ...(pointer.any === undefined ? {} : { any: pointer.any }),
      };
    },
  };
}

/**
 * Whether a pointer that was just read replaces the one in use. A higher epoch always does, a lower one
 * never (its writer was deposed); within an epoch the later one does. So a stale copy from another cache
 * and a replayed old pointer are both passed over.
 */
export function supersedes(candidate: Pointer, current: Pointer): boolean {
  if (candidate.epoch !== current.epoch) return candidate.epoch > current.epoch;
  return Date.parse(candidate.createdAt) > Date.parse(current.createdAt);
}

/** Every shard that a pointer or directory names, without duplicates. */
export function shardsOf(directory: ShardDirectory): readonly ShardName[] {
  const names = new Set<ShardName>();
  for (const [, name] of directory.exact) names.add(name);
  for (const [, name] of directory.wildcard) names.add(name);
  if (directory.any !== undefined) names.add(directory.any);
  return [...names];
}

/** Whether two directories say the same. */
export function sameDirectory(left: ShardDirectory, right: ShardDirectory): boolean {
  const text = ({ clusters, policies, exact, wildcard, any }: ShardDirectory): string =>
    JSON.stringify([clusters, policies, exact, wildcard, any]);
  return text(left) === text(right);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isDirectory(value: unknown): value is DirectoryEntry<ShardName>[] {
  return (
    Array.isArray(value) &&
    value.every(
      (entry: unknown) =>
        Array.isArray(entry) &&
        entry.length === 2 &&
        typeof entry[0] === "string" &&
        typeof entry[1] === "string" &&
        isShardName(entry[1]),
    )
  );
}
