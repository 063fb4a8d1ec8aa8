/**
 * Who may do what at the control API.
 *
 * One operator token may do everything; a token for a cluster may push that cluster's state and nothing else.
 * Tokens are compared by their SHA-256 in constant time, so neither content nor length shows in the timing.
 */

import { createHash, timingSafeEqual } from "node:crypto";

export interface AccessTokens {
  /** Absent: nobody needs one. Only for a service that listens on loopback alone. */
  readonly operator?: string | undefined;
  /** By cluster. */
  readonly clusters: ReadonlyMap<string, string>;
}

export type Caller = { readonly kind: "operator" } | { readonly kind: "cluster"; readonly cluster: string };

export const MIN_TOKEN_LENGTH = 16;

/** `undefined`: no token, or none that is known. `header` is the value of `Authorization`. */
export function identify(header: string | undefined, tokens: AccessTokens): Caller | undefined {
  if (tokens.operator === undefined && tokens.clusters.size === 0) return { kind: "operator" };
  const given = /^Bearer +(\S+)$/i.exec(header ?? "")?.[1];
  if (given === undefined) return undefined;
  // Every token is compared, whichever fits.
  let caller: Caller | undefined;
  for (const [cluster, token] of tokens.clusters) {
    if (isSame(given, token)) caller = { kind: "cluster", cluster };
  }
  if (tokens.operator !== undefined && isSame(given, tokens.operator)) caller = { kind: "operator" };
  return caller;
}

/** Reads `eu=token,us=token`. Throws a `RangeError` with a sentence. */
export function readClusterTokens(text: string): ReadonlyMap<string, string> {
  const tokens = new Map<string, string>();
  for (const entry of text.split(",").filter((part) => part.trim() !== "")) {
    const equals = entry.indexOf("=");
    const cluster = entry.slice(0, Math.max(0, equals)).trim();
    const token = entry.slice(equals + 1).trim();
    if (!isClusterName(cluster))
      throw new RangeError(
        "FAIRLEAD_PUSH_TOKENS must be `cluster=token`, or several with commas; a cluster's name is a DNS label.",
      );
    if (token.length < MIN_TOKEN_LENGTH)
      throw new RangeError(
        `The token of ${cluster} in FAIRLEAD_PUSH_TOKENS has ${token.length} characters, at least ${MIN_TOKEN_LENGTH} are needed.`,
      );
    tokens.set(cluster, token);
  }
  return tokens;
}

/** RFC 1123 §2.1. */
export function isClusterName(text: string): boolean {
  return /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text);
}

function isSame(left: string, right: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(left), digest(right));
}
