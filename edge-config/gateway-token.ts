/**
 * The token that goes with every request from the Worker to the gateway: which endpoint to dial, how, and
 * under which `Host`. `gateway/README.md` is the contract; this file is its text format.
 *
 * In: a target. Out: fields between bars, with an HMAC-SHA-256 before them; and back. HAProxy takes a field out of a
 * text for a tenth of what JSON in a JWT costs it (`field`, `hmac`, `secure_memcmp`).
 * Not here: which addresses a gateway may dial (`gateway/allowed-addresses.ts`).
 *
 * A token says nothing about the request itself, so one token serves every request to the same target until
 * it has half of its lifetime left: signing costs a look-up in nearly all cases.
 */

import { base64Bytes, base64url, type CryptoKeyHandle, subtle, utf8Bytes } from "./web-platform.ts";

/** Carries the token; the gateway takes it off. */
export const TOKEN_HEADER = "fairlead-token";

/**
 * The request target (path and query) as the pod shall see it, byte for byte, where the URL of the request cannot say it:
 * `fetch` resolves dot segments and escapes what may not stand in a URL. The gateway takes it off.
 */
export const TARGET_HEADER = "fairlead-target";

/**
 * Set on an answer that the gateway made itself, with a `GatewayError`; the gateway takes it off the answers
 * of pods, so it can be trusted.
 */
export const GATEWAY_ERROR_HEADER = "fairlead-gateway-error";

/** Why a gateway answers in place of the pod. Only `connect` promises that the pod saw nothing of the request. */
export type GatewayError =
  /** 403: no token, or one that is not readable or not signed by a known key. */
  | "token"
  /** 403: the token's time is over. */
  | "expired"
  /** 403: the address is outside the CIDRs that this gateway may dial. */
  | "address"
  /** 502: the endpoint refused the connection, was unreachable, did not resolve, or failed the TLS handshake. */
  | "connect"
  /** 502: the connection ended before a whole answer head came. */
  | "response";

export const GATEWAY_ERRORS = [
  "token",
  "expired",
  "address",
  "connect",
  "response",
] as const satisfies readonly GatewayError[];

export type GatewayScheme = "http" | "https" | "h2c" | "h2";

const SCHEMES: readonly string[] = ["http", "https", "h2c", "h2"] satisfies readonly GatewayScheme[];

/** Where a request goes. Everything that is said here is signed. */
export interface GatewayTarget {
  /** An IP address without brackets, or a DNS name (ExternalName), which the gateway resolves. */
  readonly address: string;
  readonly port: number;
  readonly scheme: GatewayScheme;
  /** The value of `Host` that the pod shall see: the client's, with its port if it sent one. */
  readonly host: string;
  /** For `https` and `h2`: the server name of the handshake. Absent: none is sent, unless `verify`. */
  readonly sni?: string;
  /** For `https` and `h2`: check the pod's certificate, for `sni` or else the name in `host`. */
  readonly verify?: boolean;
  /** For `https` and `h2`: `namespace/name` of the Secret with CA and client certificate, known to the gateway by this name. */
  readonly tlsSecret?: string;
  /** Longest wait for a connection, TLS included. Absent: the gateway's own, 5 seconds by default. */
  readonly connectTimeoutMs?: number;
}

/** How long a token is good. Long enough to be reused, short enough that a leaked one is soon worth nothing. */
export const TOKEN_LIFETIME_SECONDS = 120;

/** The signer keeps this many tokens, enough for all endpoints of a large cluster; then it forgets the oldest. */
const MAX_CACHED_TOKENS = 10_000;

const MIN_KEY_BYTES = 32;

/** One shared key. The id tells the gateway which one to check with. */
export interface TokenKey {
  readonly id: string;
  readonly bytes: Uint8Array;
}

/**
 * Reads `kid:base64,kid:base64`: the keys of `FAIRLEAD_GATEWAY_KEYS`. The first one signs, all verify, so a
 * rotation adds the new key at the gateways, then puts it first at the Worker, then takes the old one off.
 * Throws a `RangeError` with a sentence for the operator.
 */
export function parseTokenKeys(text: string): readonly TokenKey[] {
  const keys = text.split(",").map((entry): TokenKey => {
    const colon = entry.indexOf(":");
    const id = entry.slice(0, Math.max(colon, 0)).trim();
    const bytes = base64Bytes(entry.slice(colon + 1).trim());
    if (!/^[A-Za-z0-9._-]{1,64}$/.test(id)) {
      throw new RangeError(
        "FAIRLEAD_GATEWAY_KEYS must be `id:base64`, or several with commas; an id has 1 to 64 letters, digits, `.`, `_` or `-`.",
      );
    }
    if (bytes === undefined || bytes.length < MIN_KEY_BYTES) {
      throw new RangeError(
        `The key ${id} of FAIRLEAD_GATEWAY_KEYS must be at least ${MIN_KEY_BYTES} bytes in base64; \`openssl rand -base64 32\` makes a good one.`,
      );
    }
    return { id, bytes };
  });
  const ids = new Set(keys.map(({ id }) => id));
  if (ids.size < keys.length) throw new RangeError("FAIRLEAD_GATEWAY_KEYS names one key id twice.");
  return keys;
}

/** `10.0.0.1:8080`, `[fd00::1]:8080` or `name:443` as an EdgeConfig spells endpoints; `undefined` for anything else. */
export function parseEndpoint(
  endpoint: string,
): { readonly address: string; readonly port: number } | undefined {
  const parts = /^(?:\[([0-9a-fA-F:.]+)\]|([^[\]:]+)):(\d{1,5})$/.exec(endpoint);
  const address = parts?.[1] ?? parts?.[2];
  const port = Number(parts?.[3]);
  return address === undefined || port < 1 || port > 65_535 ? undefined : { address, port };
}

export interface TokenSigner {
  /** The value of `TOKEN_HEADER`; at once when a token for this target is at hand. `nowMs` since 1970. */
  readonly sign: (target: GatewayTarget, nowMs: number) => string | Promise<string>;
}

interface SignedToken {
  readonly token: string;
  readonly expiresAtMs: number;
}

/** Signs with the first key. */
export function createTokenSigner(
  keys: readonly TokenKey[],
  lifetimeSeconds = TOKEN_LIFETIME_SECONDS,
): TokenSigner {
  const first = keys[0];
  if (first === undefined) throw new RangeError("There is no key to sign tokens for the gateway with.");
  const key = importKey(first, "sign");
  key.catch(() => {}); // Whoever signs gets the rejection.
  const cache = new Map<string, SignedToken>();
  return {
    sign: (target, nowMs) => {
      const fields = fieldsOf(target);
      const known = cache.get(fields);
      if (known !== undefined && known.expiresAtMs - nowMs >= (lifetimeSeconds * 1_000) / 2)
        return known.token;
      return (async () => {
        if (!isTarget(target)) throw new RangeError(`no token can name the target ${JSON.stringify(target)}`);
        const exp = Math.floor(nowMs / 1_000) + lifetimeSeconds;
        const signed = `${first.id}|${exp}|${fields}`;
        const token = `${base64url(await subtle.sign("HMAC", await key, utf8Bytes(signed)))}|${signed}`;
        cache.delete(fields); // So that the map is in order of age.
        if (cache.size >= MAX_CACHED_TOKENS)
          for (const oldest of cache.keys()) if (cache.delete(oldest)) break;
        cache.set(fields, { token, expiresAtMs: exp * 1_000 });
        return token;
      })();
    },
  };
}

export type TokenVerdict =
  | { readonly kind: "valid"; readonly target: GatewayTarget; readonly expiresAtMs: number }
  | { readonly kind: "refused"; readonly error: "token" | "expired"; readonly reason: string };

export interface TokenVerifier {
  /** Never throws. `nowMs` since 1970. */
  readonly verify: (token: string, nowMs: number) => Promise<TokenVerdict>;
}

/** Accepts tokens by any of the keys. Nothing of a token is believed before its signature was checked. */
export function createTokenVerifier(keys: readonly TokenKey[]): TokenVerifier {
  const imported = new Map(keys.map((key) => [key.id, importKey(key, "verify")]));
  const refuse = (reason: string): TokenVerdict => ({ kind: "refused", error: "token", reason });
  /** Tokens come again and again; a signature is checked once. */
  const cache = new Map<string, Extract<TokenVerdict, { kind: "valid" }>>();
  return {
    verify: async (token, nowMs) => {
      let verdict = cache.get(token);
      if (verdict === undefined) {
        const [signature = "", id, exp, ...fields] = token.split("|");
        const key = id === undefined ? undefined : imported.get(id);
        if (key === undefined) return refuse("it is not signed with a known key");
        const bytes = base64Bytes(signature);
        const signed = utf8Bytes(token.slice(signature.length + 1));
        // One signature has one text, as for HAProxy, which compares texts.
        if (
          bytes === undefined ||
          base64url(bytes) !== signature ||
          !(await subtle.verify("HMAC", await key, bytes, signed))
        ) {
          return refuse("its signature is wrong");
        }
        const target = targetOf(fields);
        if (target === undefined || !/^[0-9]{1,12}$/.test(exp ?? "")) return refuse("it is malformed");
        verdict = { kind: "valid", target, expiresAtMs: Number(exp) * 1_000 };
        if (cache.size >= MAX_CACHED_TOKENS) cache.clear();
        cache.set(token, verdict);
      }
      if (verdict.expiresAtMs > nowMs) return verdict;
      cache.delete(token);
      return { kind: "refused", error: "expired", reason: "its time is over" };
    },
  };
}

/** The fields of a token behind signature, key id and expiry; what is absent is empty. Equal for equal targets only. */
function fieldsOf(target: GatewayTarget): string {
  const { scheme, verify, tlsSecret, address, port, host, sni, connectTimeoutMs } = target;
  return `${scheme}|${verify === true ? "on" : ""}|${tlsSecret ?? ""}|${address}|${port}|${host}|${sni ?? ""}|${connectTimeoutMs ?? ""}`;
}

/** Printable ASCII without spaces and bars: nothing of a field can end it, or break a header line or a log line. */
const WORD = /^[\x21-\x7b\x7d\x7e]{1,255}$/;

function isTarget(target: GatewayTarget): boolean {
  const { address, port, scheme, host, sni, tlsSecret, connectTimeoutMs } = target;
  return (
    SCHEMES.includes(scheme) &&
    Number.isInteger(port) &&
    port >= 1 &&
    port <= 65_535 &&
    [address, host, sni, tlsSecret].every((text) => text === undefined || WORD.test(text)) &&
    (connectTimeoutMs === undefined || (Number.isFinite(connectTimeoutMs) && connectTimeoutMs > 0))
  );
}

function targetOf(fields: readonly string[]): GatewayTarget | undefined {
  const [scheme, verify, tlsSecret, address = "", port = "", host = "", sni, timeout, ...more] = fields;
  if (timeout === undefined || more.length > 0 || (verify !== "" && verify !== "on")) return undefined;
  if (!/^[0-9]{1,5}$/.test(port) || !/^([0-9.]{1,12})?$/.test(timeout)) return undefined;
  const target: GatewayTarget = {
    address,
    port: Number(port),
    scheme: scheme as GatewayScheme,
    host,
    ...(sni ? { sni } : {}),
    ...(verify === "on" ? { verify: true } : {}),
    ...(tlsSecret ? { tlsSecret } : {}),
    ...(timeout === "" ? {} : { connectTimeoutMs: Number(timeout) }),
  };
  return isTarget(target) ? target : undefined;
}

function importKey({ bytes }: TokenKey, usage: "sign" | "verify"): Promise<CryptoKeyHandle> {
  return subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, [usage]);
}
