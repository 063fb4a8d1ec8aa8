/**
 * Distinguished names of certificates as nginx and Cloudflare write them: RFC 2253, the last part first.
 *
 * In: a name as Node writes it, a part a line, already escaped but for characters beyond ASCII. Out: one line, the same as
 * OpenSSL's `XN_FLAG_RFC2253`.
 */

import { utf8Bytes } from "./web-platform.ts";

export function nameAsRfc2253(lines: string): string {
  return lines
    .split("\n")
    .filter((line) => line !== "")
    .reverse()
    .map((line) => line.replaceAll(" + ", "+").replaceAll(/[^ -~]+/g, escapeBytes))
    .join(",");
}

function escapeBytes(text: string): string {
  return Array.from(utf8Bytes(text), (byte) => `\\${byte.toString(16).toUpperCase()}`).join("");
}
