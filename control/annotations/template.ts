/**
 * Parses text with nginx variables (`https://$host/x?u=$arg_u`, `${http_x_key}`) into a Template.
 *
 * Only the variables of `edge-config/template.ts` exist. Any other `$name` makes the text unreadable, so a
 * typo or an nginx-only variable is told at compile time and never sent to anyone as text.
 */

import type { Template, Variable } from "../../edge-config/template.ts";
import { type Reading, unreadable, value } from "./reader.ts";

const FIXED: ReadonlySet<string> = new Set([
  "args",
  "escaped_request_uri",
  "host",
  "http_host",
  "https",
  "is_args",
  "query_string",
  "remote_addr",
  "remote_user",
  "request_id",
  "request_method",
  "request_uri",
  "scheme",
  "server_name",
  "server_port",
  "uri",
]);

/** `binary_remote_addr` is the same address in another form, and no key that it goes into can tell. */
const SYNONYMS: Readonly<Record<string, Variable>> = {
  binary_remote_addr: "remote_addr",
  best_http_host: "http_host",
  pass_access_scheme: "scheme",
  document_uri: "uri",
};

export function isVariable(name: string): name is Variable {
  return FIXED.has(name) || /^(arg|cookie|http)_[a-z0-9_]{1,128}$/.test(name);
}

export function parseTemplate(text: string): Reading<Template> {
  const parts: (string | { readonly variable: Variable })[] = [];
  let end = 0;
  for (const match of text.matchAll(/\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))?/g)) {
    const written = match[1] ?? match[2];
    if (written === undefined) return unreadable("text in which each $ begins the name of a variable");
    const name = SYNONYMS[written.toLowerCase()] ?? written.toLowerCase();
    if (!isVariable(name))
      return unreadable(`text without the variable $${written}, which does not exist here`);
    if (match.index > end) parts.push(text.slice(end, match.index));
    parts.push({ variable: name });
    end = match.index + match[0].length;
  }
  if (end < text.length) parts.push(text.slice(end));
  return value(parts);
}
