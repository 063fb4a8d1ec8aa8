/** crypt(3) with MD5: `$1$` of FreeBSD and `$apr1$` of Apache's htpasswd, which differ in the magic alone. */

import { createHash } from "../node-crypto.ts";

const ITOA64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** The whole hash of `password` under magic and salt of `hash`; `undefined` when `hash` is none of these. */
export function md5Crypt(password: string, hash: string): string | undefined {
  const [, magic, salt] = /^(\$(?:1|apr1)\$)([^$]{0,8})/.exec(hash) ?? [];
  if (magic === undefined || salt === undefined) return undefined;
  const key = new TextEncoder().encode(password);
  const md5 = (...parts: readonly (Uint8Array | string)[]): Uint8Array => {
    const digest = createHash("md5");
    for (const part of parts) digest.update(part);
    return digest.digest();
  };

  const alternate = md5(key, salt, key);
  const start = createHash("md5").update(key).update(magic).update(salt);
  for (let left = key.length; left > 0; left -= 16) start.update(alternate.subarray(0, Math.min(16, left)));
  for (let bits = key.length; bits > 0; bits >>= 1)
    start.update(bits & 1 ? Uint8Array.of(0) : key.subarray(0, 1));
  let digest: Uint8Array = start.digest();
  for (let round = 0; round < 1000; round++) {
    const parts: (Uint8Array | string)[] = [round & 1 ? key : digest];
    if (round % 3) parts.push(salt);
    if (round % 7) parts.push(key);
    parts.push(round & 1 ? digest : key);
    digest = md5(...parts);
  }

  const at = (index: number): number => digest[index] ?? 0;
  let text = "";
  for (const [a, b, c] of [
    [0, 6, 12],
    [1, 7, 13],
    [2, 8, 14],
    [3, 9, 15],
    [4, 10, 5],
  ] as const) {
    text += base64((at(a) << 16) | (at(b) << 8) | at(c), 4);
  }
  return `${magic}${salt}$${text}${base64(at(11), 2)}`;
}

function base64(value: number, length: number): string {
  let text = "";
  for (let rest = value, count = 0; count < length; count++, rest >>= 6) text += ITOA64[rest & 63];
  return text;
}
