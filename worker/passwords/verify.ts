/**
 * Does this password belong to this hash? In every format that nginx's auth_basic takes
 * (http://nginx.org/en/docs/http/ngx_http_auth_basic_module.html and the system's crypt(3)):
 * bcrypt, `$apr1$`, `$1$`, `$5$`, `$6$`, traditional DES, `{SHA}`, `{SSHA}`, `{PLAIN}`. A bare password is no hash.
 */

import { compare } from "bcryptjs";
import desCrypt from "unix-crypt-td-js";
import { encrypt as shaCrypt } from "unixcrypt";
import { createHash, timingSafeEqual } from "../node-crypto.ts";
import { md5Crypt } from "./md5-crypt.ts";

/** False for a wrong password and for a hash of no known format. */
export async function verifyPassword(password: string, hash: string): Promise<boolean> {
  if (/^\$2[aby]\$/.test(hash)) return compare(password, hash);
  if (hash.startsWith("{PLAIN}")) return isEqual(password, hash.slice(7));
  if (hash.startsWith("{SHA}")) return isEqual(base64(sha1(password)), hash.slice(5));
  if (hash.startsWith("{SSHA}")) {
    const bytes = bytesOf(hash.slice(6));
    return bytes.length > 20 && timingSafeEqual(sha1(password, bytes.subarray(20)), bytes.subarray(0, 20));
  }
  if (/^\$(?:1|apr1)\$/.test(hash)) return isEqual(md5Crypt(password, hash) ?? "", hash);
  if (/^\$[56]\$/.test(hash)) return isEqual(shaCrypt(password, hash.slice(0, hash.lastIndexOf("$"))), hash);
  if (/^[./0-9A-Za-z]{13}$/.test(hash)) return isEqual(desCrypt(password, hash.slice(0, 2)), hash);
  return false;
}

function sha1(...parts: readonly (string | Uint8Array)[]): Uint8Array {
  const digest = createHash("sha1");
  for (const part of parts) digest.update(part);
  return digest.digest();
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

/** Empty for text that is no base64. */
function bytesOf(text: string): Uint8Array {
  try {
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}

/** In a time that does not tell how much of it is right. */
function isEqual(given: string, wanted: string): boolean {
  const a = createHash("sha256").update(given).digest();
  const b = createHash("sha256").update(wanted).digest();
  return timingSafeEqual(a, b);
}
