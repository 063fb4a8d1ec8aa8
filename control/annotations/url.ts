/**
 * Parses the URLs that annotations hold: absolute, http or https, with variables.
 *
 * The host is literal or made of the request's own host alone (`https://$host/oauth2/auth`, as everybody
 * writes it for oauth2-proxy): no other part of a request may choose whom the edge calls.
 * Not here: which addresses may be called and how they are reached (`compile/destination.ts`).
 */

import { formatAddress, parseAddress } from "../../edge-config/address.ts";
import type { Template } from "../../edge-config/template.ts";
import { isDnsName } from "./addresses.ts";
import { type Reading, unreadable, value } from "./reader.ts";
import { parseTemplate } from "./template.ts";

export interface UrlText {
  readonly scheme: "http" | "https";
  readonly host:
    | {
        readonly kind: "Literal";
        /** Lower case, without port, trailing dot and brackets. */
        readonly name: string;
        readonly port: number;
        /** As a `Host` header has it: brackets, and the port where it was written. */
        readonly authority: string;
      }
    | { readonly kind: "OfTheRequest"; readonly template: Template };
  /** Path and query; begins with `/`. Characters that may not stand in a URL are escaped. */
  readonly target: Template;
}

const EXPECTED = "an absolute http or https URL";

export function parseUrl(text: string): Reading<UrlText> {
  const [, scheme, authority = "", rest = ""] =
    /^(https?):\/\/((?:\$(?:host|http_host|\{host\}|\{http_host\})(?![a-z_]))?[^/?#$]*)([^#]*)/i.exec(text) ??
    [];
  if (scheme === undefined || authority === "") return unreadable(EXPECTED);
  if (/[\s"<>\\^`|]|(?<!\$)\{|\}(?<!\$\{[A-Za-z0-9_]+\})/.test(text))
    return unreadable(`${EXPECTED} without spaces, quotes, <, >, \\, ^, \`, | and braces`);
  if (authority.includes("@")) return unreadable(`${EXPECTED} without a user name`);
  // `https://copy.example.com$request_uri`, as everybody writes it: the variable begins with the slash.
  const target = parseTemplate(/^(?:\/|\$\{?(?:request_uri|uri)(?![a-z_]))/.test(rest) ? rest : `/${rest}`);
  if (target.kind === "Unreadable") return target;
  const host = parseHost(authority, scheme.toLowerCase() === "https" ? 443 : 80);
  if (host === undefined) return unreadable(`${EXPECTED} with a valid host`);
  return value({ scheme: scheme.toLowerCase() === "https" ? "https" : "http", host, target: target.value });
}

function parseHost(authority: string, defaultPort: number): UrlText["host"] | undefined {
  if (authority.includes("$")) {
    const template = parseTemplate(authority);
    if (template.kind === "Unreadable") return undefined;
    const [first, second, ...more] = template.value;
    if (typeof first !== "object" || (first.variable !== "host" && first.variable !== "http_host"))
      return undefined;
    const portIsRight = second === undefined || (typeof second === "string" && /^:[0-9]{1,5}$/.test(second));
    return portIsRight && more.length === 0 ? { kind: "OfTheRequest", template: template.value } : undefined;
  }
  const [, bracketed, plain, portText] =
    /^(?:\[([^\]]*)\]|([^:[\]]+))(?::([0-9]{1,5}))?$/.exec(authority) ?? [];
  const port = portText === undefined ? defaultPort : Number(portText);
  if (port < 1 || port > 65_535) return undefined;
  const portSuffix = portText === undefined ? "" : `:${port}`;
  if (bracketed !== undefined) {
    const bytes = parseAddress(bracketed);
    if (bytes?.length !== 16) return undefined;
    const name = formatAddress(bytes);
    return { kind: "Literal", name, port, authority: `[${name}]${portSuffix}` };
  }
  const name = (plain ?? "").toLowerCase().replace(/\.$/, "");
  // What ends in a number is an IPv4 address or nothing (WHATWG URL §3.5): `127.1` and `0x7f.1` are refused.
  if (/(^|\.)(0x[0-9a-f]*|[0-9]+)$/.test(name) && parseAddress(name) === undefined) return undefined;
  if (parseAddress(name) === undefined && !isDnsName(name)) return undefined;
  return { kind: "Literal", name, port, authority: `${name}${portSuffix}` };
}
