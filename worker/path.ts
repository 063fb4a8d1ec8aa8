/**
 * The path of a request, normalised once: every decision of the edge (routes, filters, keys) uses this value.
 *
 * In: the path as the client sent it. Out: the path that it means, or nothing where nginx answers 400; and back
 * from such a path to bytes fit for a request line. Not here: matching (`match.ts`), the query, which never
 * takes part. The rules are nginx's `ngx_http_parse_complex_uri` with `merge_slashes on`.
 *
 * A normalised path is a *byte string* (Latin-1): one character for each byte after percent-decoding.
 * Bytes that are no UTF-8 so keep their meaning, and user patterns see what PCRE sees in nginx.
 * This module is pure and knows nothing of Cloudflare, so that `fairlead explain` runs the code that serves.
 */

import { utf8AsLatin1 } from "../edge-config/pattern/syntax.ts";

/** Nearly every path: printable ASCII without an escape, a doubled slash or a segment that begins with a dot. */
const NEEDS_WORK = /[^!-~]|[%#]|\/[/.]/;

/**
 * Resolves dot segments, merges slashes and decodes percent-escapes, each exactly once: `%2F` means `/`,
 * `%2e%2e` means `..`, `%252F` means `%2F`. Returns `undefined` for what nginx refuses with 400: a path that
 * climbs above the root, an escape that is none, an escaped or raw NUL, a raw space or control character.
 */
export function normalisePath(raw: string): string | undefined {
  if (!NEEDS_WORK.test(raw)) return raw;
  return normaliseBytes(utf8AsLatin1(raw));
}

const SLASH = 0x2f;
const DOT = 0x2e;
const PERCENT = 0x25;
const HASH = 0x23;

/** One pass; `out` holds the normalised bytes so far and always begins with a slash. */
function normaliseBytes(raw: string): string | undefined {
  let out = "/";
  let segment = 1; // Where the segment that is being read begins in `out`.
  let at = raw.charCodeAt(0) === SLASH ? 1 : 0;
  for (;;) {
    let code = at < raw.length ? raw.charCodeAt(at++) : -1;
    if (code === HASH) code = -1; // What follows a raw `#` is no part of the path.
    if (code !== -1 && (code <= 0x20 || code === 0x7f)) return undefined;
    if (code === PERCENT) {
      code = hexByte(raw, at);
      if (code <= 0) return undefined;
      at += 2;
    }
    if (code !== SLASH && code !== -1) {
      out += String.fromCharCode(code);
      continue;
    }
    const length = out.length - segment;
    if (length === 0 && code === SLASH) continue; // Merges slashes.
    if (length === 1 && out.charCodeAt(segment) === DOT) {
      out = out.slice(0, segment);
    } else if (length === 2 && out.charCodeAt(segment) === DOT && out.charCodeAt(segment + 1) === DOT) {
      if (segment === 1) return undefined; // Above the root.
      segment = out.lastIndexOf("/", segment - 2) + 1;
      out = out.slice(0, segment);
    } else if (code === SLASH) {
      out += "/";
      segment = out.length;
    }
    if (code === -1) return out;
  }
}

/** The byte that two hexadecimal digits at `at` name, or -1. */
function hexByte(text: string, at: number): number {
  const high = hexDigit(text.charCodeAt(at));
  const low = hexDigit(text.charCodeAt(at + 1));
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

/**
 * What a rewritten path must escape (nginx's `NGX_ESCAPE_URI`): all but visible ASCII, and of that
 * `"`, `#`, `%`, `<`, `>`, `?`, `\`, `^`, `` ` ``, `{`, `|` and `}`.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for.
const ESCAPED = /[\u0000-\u0020"#%<>?\\^`{|}\u007f-\u00ff]/g;

/** A normalised path as bytes for a request line; a decoded `/` stays a slash and `%` becomes `%25` again. */
export function encodePath(path: string): string {
  return path.replace(
    ESCAPED,
    (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
}
