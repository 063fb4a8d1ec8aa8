/**
 * Secrets inside policies: plain in memory, sealed in KV.
 *
 * A policy marks a secret by its type, `SecretText`. Whatever policy it stands in, at whatever depth, the
 * writer of shards seals it and the reader opens it; no other layer has to know.
 * Not here: the cryptography (`config-keys.ts`).
 */

import type { ConfigKeys } from "./config-keys.ts";

/** Text that nobody may read who can read KV: a file of password hashes, a token. */
export interface SecretText {
  readonly kind: "secret";
  readonly text: string;
}

/** How a `SecretText` stands in a shard. */
interface SealedText {
  readonly kind: "sealed";
  readonly text: string;
}

export function isSecretText(value: unknown): value is SecretText {
  return isText(value, "secret");
}

function isSealedText(value: unknown): value is SealedText {
  return isText(value, "sealed");
}

function isText(value: unknown, kind: string): boolean {
  if (typeof value !== "object" || value === null) return false;
  const fields = value as { readonly kind?: unknown; readonly text?: unknown };
  return fields.kind === kind && typeof fields.text === "string" && Object.keys(value).length === 2;
}

/** A copy of the value with every secret sealed for `context` (the host: a sealed secret cannot be moved to another one). */
export function sealSecrets(value: unknown, keys: ConfigKeys, context: string): Promise<unknown> {
  return replace(value, async (leaf) =>
    isSecretText(leaf)
      ? ({ kind: "sealed", text: await keys.seal(leaf.text, context) } satisfies SealedText)
      : undefined,
  );
}

/** A copy of the value with every secret opened; throws `SecretError` when one cannot be. */
export function openSecrets(value: unknown, keys: ConfigKeys | undefined, context: string): Promise<unknown> {
  return replace(value, async (leaf) => {
    if (!isSealedText(leaf)) return undefined;
    if (keys === undefined) throw new SecretError("no FAIRLEAD_CONFIG_KEY is set here");
    const text = await keys.open(leaf.text, context);
    if (text === undefined)
      throw new SecretError("FAIRLEAD_CONFIG_KEY is another one than it was sealed with");
    return { kind: "secret", text } satisfies SecretText;
  });
}

export class SecretError extends Error {
  override readonly name = "SecretError";
}

/** Deep copy in which `swap` may put something else in the place of an object. */
async function replace(value: unknown, swap: (value: object) => Promise<unknown>): Promise<unknown> {
  if (typeof value !== "object" || value === null) return value;
  const swapped = await swap(value);
  if (swapped !== undefined) return swapped;
  if (Array.isArray(value)) return Promise.all(value.map((item) => replace(item, swap)));
  const fields: [string, unknown][] = [];
  for (const [name, item] of Object.entries(value)) fields.push([name, await replace(item, swap)]);
  return Object.fromEntries(fields); // Not by assignment: a field may be called `__proto__`.
}
