/**
 * The keys that protect a configuration in KV, all derived from one text that operators set twice: as the
 * Worker secret `FAIRLEAD_CONFIG_KEY` and in the environment of the control service.
 *
 * In: that text. Out: sealing and opening of secrets, signing and checking of the pointer.
 * Not here: what is a secret (`secret.ts`), what a pointer says (`pointer.ts`).
 *
 * Derivation: HKDF-SHA-256 (RFC 5869), empty salt, one `info` for each purpose, so that no key serves two.
 *
 * Rotation: the text may hold several keys, separated by commas. The first one seals and signs; every one
 * opens and verifies. So: put the new key second at the Worker, first at the control service, then drop the
 * old one.
 */

import { base64Bytes, base64url, type CryptoKeyHandle, subtle, utf8Bytes, utf8Text } from "./web-platform.ts";

/** Shorter keys are refused: `openssl rand -base64 32` makes 44 characters. */
export const MIN_CONFIG_KEY_LENGTH = 32;

const NONCE_BYTES = 12;

export interface ConfigKeys {
  /** Sealed text (base64url of nonce and ciphertext), bound to `context`: it opens under no other one. */
  readonly seal: (plaintext: string, context: string) => Promise<string>;
  /** The plaintext; `undefined` when no key opens it or the context is another one. */
  readonly open: (sealed: string, context: string) => Promise<string | undefined>;
  /** HMAC-SHA-256 in base64url (43 characters), by the first key. */
  readonly sign: (text: string) => Promise<string>;
  /** Whether any of the keys made this signature. */
  readonly verify: (text: string, signature: string) => Promise<boolean>;
}

interface DerivedKeys {
  readonly encryption: CryptoKeyHandle;
  readonly nonce: CryptoKeyHandle;
  readonly signature: CryptoKeyHandle;
}

/**
 * Derives all keys from the operator's text.
 * Throws a `RangeError` with a sentence for the operator when a key is too short.
 */
export async function deriveConfigKeys(text: string): Promise<ConfigKeys> {
  const masters = text.split(",").map((part) => part.trim());
  for (const master of masters) {
    if (master.length < MIN_CONFIG_KEY_LENGTH) {
      throw new RangeError(
        `FAIRLEAD_CONFIG_KEY holds a key of ${master.length} characters, at least ${MIN_CONFIG_KEY_LENGTH} are needed; \`openssl rand -base64 32\` makes a good one.`,
      );
    }
  }
  const all = await Promise.all(masters.map(derive));
  const first = all[0];
  if (first === undefined) throw new RangeError("FAIRLEAD_CONFIG_KEY is empty.");
  return {
    seal: (plaintext, context) => seal(first, plaintext, context),
    open: async (sealed, context) => {
      const bytes = base64Bytes(sealed);
      if (bytes === undefined || bytes.length <= NONCE_BYTES) return undefined;
      for (const keys of all) {
        const plaintext = await open(keys, bytes, context);
        if (plaintext !== undefined) return plaintext;
      }
      return undefined;
    },
    sign: async (signed) => base64url(await subtle.sign("HMAC", first.signature, utf8Bytes(signed))),
    verify: async (signed, signature) => {
      const bytes = base64Bytes(signature);
      if (bytes === undefined) return false;
      for (const keys of all) {
        if (await subtle.verify("HMAC", keys.signature, bytes, utf8Bytes(signed))) return true;
      }
      return false;
    },
  };
}

/**
 * Deterministic encryption in the manner of SIV (RFC 5297): the nonce is a pseudo-random function of context
 * and plaintext. Shards are named by their content, so equal input must give equal bytes, or every compile
 * would rewrite every shard that holds a secret. A random nonce would be stronger by one property only: it
 * hides that a secret is the same as before, which the unchanged name of the shard is meant to show. Two
 * different plaintexts share a nonce with probability 2⁻⁹⁶ a pair.
 */
async function seal(keys: DerivedKeys, plaintext: string, context: string): Promise<string> {
  const text = utf8Bytes(plaintext);
  const additionalData = utf8Bytes(context);
  const mac = await subtle.sign("HMAC", keys.nonce, lengthPrefixed(additionalData, text));
  const iv = new Uint8Array(mac).slice(0, NONCE_BYTES);
  const ciphertext = await subtle.encrypt({ name: "AES-GCM", iv, additionalData }, keys.encryption, text);
  const sealed = new Uint8Array(NONCE_BYTES + ciphertext.byteLength);
  sealed.set(iv);
  sealed.set(new Uint8Array(ciphertext), NONCE_BYTES);
  return base64url(sealed);
}

async function open(keys: DerivedKeys, sealed: Uint8Array, context: string): Promise<string | undefined> {
  const iv = sealed.subarray(0, NONCE_BYTES);
  const additionalData = utf8Bytes(context);
  try {
    const algorithm = { name: "AES-GCM", iv, additionalData } as const;
    return utf8Text(await subtle.decrypt(algorithm, keys.encryption, sealed.subarray(NONCE_BYTES)));
  } catch {
    return undefined; // WebCrypto's only answer to a wrong key, a changed byte or another context.
  }
}

/** Unambiguous concatenation: the length keeps ("ab", "c") and ("a", "bc") apart. */
function lengthPrefixed(first: Uint8Array, second: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + first.length + second.length);
  new DataView(bytes.buffer).setUint32(0, first.length);
  bytes.set(first, 4);
  bytes.set(second, 4 + first.length);
  return bytes;
}

async function derive(master: string): Promise<DerivedKeys> {
  const material = await subtle.importKey("raw", utf8Bytes(master), "HKDF", false, ["deriveBits"]);
  const bytesFor = async (purpose: string): Promise<Uint8Array> => {
    const info = utf8Bytes(`fairlead/${purpose}/v1`);
    const hkdf = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(0), info } as const;
    return new Uint8Array(await subtle.deriveBits(hkdf, material, 256));
  };
  const hmac = { name: "HMAC", hash: "SHA-256" } as const;
  const [encryption, nonce, signature] = await Promise.all([
    bytesFor("secret-encryption"),
    bytesFor("secret-nonce"),
    bytesFor("pointer-signature"),
  ]);
  return {
    encryption: await subtle.importKey("raw", encryption, "AES-GCM", false, ["encrypt", "decrypt"]),
    nonce: await subtle.importKey("raw", nonce, hmac, false, ["sign"]),
    signature: await subtle.importKey("raw", signature, hmac, false, ["sign", "verify"]),
  };
}
