/**
 * The few Web APIs that Node and Workers both have as globals, typed here by hand.
 *
 * This folder is compiled without the types of either platform, so that nothing in it can lean on one of
 * them; these are the exceptions, and the only ones.
 */

/** A key that never leaves the platform's crypto. */
export interface CryptoKeyHandle {
  readonly type: string;
}

interface SubtleCrypto {
  digest(algorithm: "SHA-256", data: Uint8Array): Promise<ArrayBuffer>;
  importKey(
    format: "raw",
    bytes: Uint8Array,
    algorithm: string | { readonly name: "HMAC"; readonly hash: "SHA-256" },
    extractable: boolean,
    usages: readonly string[],
  ): Promise<CryptoKeyHandle>;
  deriveBits(
    algorithm: { name: "HKDF"; hash: "SHA-256"; salt: Uint8Array; info: Uint8Array },
    key: CryptoKeyHandle,
    length: number,
  ): Promise<ArrayBuffer>;
  sign(algorithm: "HMAC", key: CryptoKeyHandle, data: Uint8Array): Promise<ArrayBuffer>;
  /** Compares in constant time. */
  verify(algorithm: "HMAC", key: CryptoKeyHandle, signature: Uint8Array, data: Uint8Array): Promise<boolean>;
  encrypt(algorithm: AesGcm, key: CryptoKeyHandle, data: Uint8Array): Promise<ArrayBuffer>;
  decrypt(algorithm: AesGcm, key: CryptoKeyHandle, data: Uint8Array): Promise<ArrayBuffer>;
}

interface AesGcm {
  readonly name: "AES-GCM";
  readonly iv: Uint8Array;
  readonly additionalData: Uint8Array;
}

interface WebPlatform {
  readonly crypto: { readonly subtle: SubtleCrypto };
  readonly TextEncoder: new () => { encode(text: string): Uint8Array };
  readonly TextDecoder: new () => { decode(bytes: Uint8Array | ArrayBuffer): string };
  readonly atob: (base64: string) => string;
  readonly btoa: (binary: string) => string;
}

const platform = globalThis as unknown as WebPlatform;

export const subtle = platform.crypto.subtle;

const encoder = new platform.TextEncoder();
const decoder = new platform.TextDecoder();

export function utf8Bytes(text: string): Uint8Array {
  return encoder.encode(text);
}

export function utf8Text(bytes: Uint8Array | ArrayBuffer): string {
  return decoder.decode(bytes);
}

export function hex(bytes: ArrayBuffer | Uint8Array): string {
  let text = "";
  for (const byte of new Uint8Array(bytes)) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** RFC 4648 §5, without padding. */
export function base64url(bytes: ArrayBuffer | Uint8Array): string {
  let binary = "";
  for (const byte of new Uint8Array(bytes)) binary += String.fromCharCode(byte);
  return platform.btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** Accepts base64 and base64url, padded or not; `undefined` for anything else. */
export function base64Bytes(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/_-]*={0,2}$/.test(text)) return undefined;
  try {
    const binary = platform.atob(text.replaceAll("-", "+").replaceAll("_", "/").replace(/=+$/, ""));
    const bytes = new Uint8Array(binary.length);
    for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
    return bytes;
  } catch {
    return undefined;
  }
}
