/**
 * The readers: one a kind of value that ingress-nginx's annotations have.
 *
 * Booleans, integers and sizes are read as Go's strconv and nginx read them (reference §0.3), so that what
 * was valid there is valid here. Every reader gets text that is trimmed, not empty, within its length and
 * free of CR, LF, NUL and other control characters (`read.ts` sees to that).
 */

import { parseCidr } from "../../edge-config/address.ts";
import { compilePattern } from "../../edge-config/pattern/loaded.ts";
import type { Template } from "../../edge-config/template.ts";
import { isDnsName, isServiceName } from "./addresses.ts";
import { type Reader, type ReaderOptions, type Reading, unreadable, value } from "./reader.ts";
import { parseTemplate } from "./template.ts";
import { parseUrl, type UrlText } from "./url.ts";

const SHORT = 2048;
/** A list of CIDRs or origins is written by programs, and Kubernetes allows 256 KiB of annotations in all. */
const LONG = 65_536;

function reader<T, A extends T | undefined>(
  type: string,
  doc: string,
  options: ReaderOptions<T, A>,
  read: (text: string) => Reading<T>,
  maxLength = SHORT,
): Reader<T, A> {
  return { type, doc, options, read, maxLength: options.maxLength ?? maxLength };
}

const TRUE = new Set(["1", "t", "T", "TRUE", "true", "True"]);
const FALSE = new Set(["0", "f", "F", "FALSE", "false", "False"]);

/** Go's ParseBool: `1 t T TRUE true True` and their opposites, nothing else. */
export function flag<A extends boolean | undefined = undefined>(
  doc: string,
  options: ReaderOptions<boolean, A> = {},
): Reader<boolean, A> {
  return reader("boolean", doc, options, (text) =>
    TRUE.has(text) ? value(true) : FALSE.has(text) ? value(false) : unreadable('"true" or "false"'),
  );
}

/** nginx's `on` and `off`. */
export function onOff<A extends boolean | undefined = undefined>(
  doc: string,
  options: ReaderOptions<boolean, A> = {},
): Reader<boolean, A> {
  return reader("on or off", doc, options, (text) =>
    text === "on" ? value(true) : text === "off" ? value(false) : unreadable('"on" or "off"'),
  );
}

interface Range {
  readonly min?: number;
  readonly max?: number;
}

/** A whole number without a unit, as Go's Atoi reads it. */
export function integer<A extends number | undefined = undefined>(
  doc: string,
  { min = 0, max = 2_147_483_647, ...options }: ReaderOptions<number, A> & Range = {},
): Reader<number, A> {
  return reader("integer", doc, options, (text) => readInteger(text, min, max, "a whole number"));
}

/** A whole number of seconds without a unit. */
export function seconds<A extends number | undefined = undefined>(
  doc: string,
  { min = 0, max = 2_147_483_647, ...options }: ReaderOptions<number, A> & Range = {},
): Reader<number, A> {
  return reader("seconds", doc, options, (text) => readInteger(text, min, max, "a whole number of seconds"));
}

function readInteger(text: string, min: number, max: number, what: string): Reading<number> {
  const number = Number(text);
  if (!/^[+-]?[0-9]{1,15}$/.test(text) || number < min || number > max)
    return unreadable(`${what} from ${min} to ${max}`);
  return value(number);
}

const UNITS = { "": 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 } as const;

/** nginx's sizes, `8m`; the value is in bytes. */
export function size<A extends number | undefined = undefined>(
  doc: string,
  options: ReaderOptions<number, A> = {},
): Reader<number, A> {
  return reader("size", doc, options, (text) => {
    const [, digits, unit] = /^([0-9]{1,12})([bkmg]?)$/i.exec(text) ?? [];
    if (digits === undefined) return unreadable('a size such as "8m" (units b, k, m, g)');
    return value(Number(digits) * UNITS[(unit?.toLowerCase() ?? "") as keyof typeof UNITS]);
  });
}

/** Free text, or text of a given shape (`expected` says which, beginning with an article). */
export function text<A extends string | undefined = undefined>(
  doc: string,
  {
    pattern,
    expected = "text",
    type = "text",
    ...options
  }: ReaderOptions<string, A> & {
    readonly pattern?: RegExp;
    readonly expected?: string;
    readonly type?: string;
  } = {},
): Reader<string, A> {
  return reader(type, doc, options, (given) =>
    pattern === undefined || pattern.test(given) ? value(given) : unreadable(expected),
  );
}

/** One of a few words; `words` in the spelling that the policy uses. */
export function choice<const W extends string, A extends W | undefined = undefined>(
  doc: string,
  words: readonly W[],
  options: ReaderOptions<W, A> & { readonly ignoreCase?: true } = {},
): Reader<W, A> {
  return reader(words.join(", "), doc, options, (text) => {
    const found = words.find((word) =>
      options.ignoreCase ? word.toLowerCase() === text.toLowerCase() : word === text,
    );
    return found === undefined ? unreadable(`one of ${words.join(", ")}`) : value(found);
  });
}

/**
 * A comma-separated list in which every item must be right. Items are trimmed, empty ones skipped, so a list
 * may be written over several lines.
 */
export function list<A extends readonly string[] | undefined = undefined>(
  doc: string,
  {
    item,
    expected = "a comma-separated list",
    separator = ",",
    type = "comma-separated list",
    ...options
  }: ReaderOptions<readonly string[], A> & {
    readonly item?: (item: string) => boolean;
    readonly expected?: string;
    readonly separator?: "," | " ";
    readonly type?: string;
  } = {},
): Reader<readonly string[], A> {
  return reader(
    type,
    doc,
    options,
    (text) => {
      const items = itemsOf(text, separator);
      const wrong = items.find((one) => CONTROL.test(one) || (item !== undefined && !item(one)));
      if (wrong !== undefined) return unreadable(`${expected} (wrong: ${quote(wrong)})`);
      return items.length === 0 ? unreadable(expected) : value(items);
    },
    LONG,
  );
}

const CONTROL = /\p{Cc}/u;

function itemsOf(text: string, separator: "," | " "): readonly string[] {
  return (separator === "," ? text.split(",") : text.split(/\s+/))
    .map((item) => item.trim())
    .filter((item) => item !== "");
}

/** Names of HTTP headers (RFC 9110 §5.1), comma-separated, as written. */
export function headerNames<A extends readonly string[] | undefined = undefined>(
  doc: string,
  options: ReaderOptions<readonly string[], A> = {},
): Reader<readonly string[], A> {
  return list(doc, {
    ...options,
    item: isHeaderName,
    expected: "a comma-separated list of header names",
    type: "comma-separated header names",
  });
}

/** RFC 9110 §5.6.2, `token`. */
export function isHeaderName(text: string): boolean {
  return text.length <= 256 && /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(text);
}

/** One name of an HTTP header. */
export function headerName<A extends string | undefined = undefined>(
  doc: string,
  options: ReaderOptions<string, A> = {},
): Reader<string, A> {
  return reader("header name", doc, options, (given) =>
    isHeaderName(given) ? value(given) : unreadable("the name of a header"),
  );
}

/** Addresses and CIDRs of both families, comma-separated; the value is canonical: `10.1.2.3/8` is `10.0.0.0/8`. */
export function cidrs<A extends readonly string[] | undefined = undefined>(
  doc: string,
  options: ReaderOptions<readonly string[], A> = {},
): Reader<readonly string[], A> {
  const expected = "a comma-separated list of addresses and CIDRs";
  return reader(
    "comma-separated addresses and CIDRs",
    doc,
    options,
    (given) => {
      const found = new Set<string>();
      for (const item of itemsOf(given, ",")) {
        const cidr = parseCidr(item);
        if (cidr === undefined) return unreadable(`${expected} (wrong: ${quote(item)})`);
        found.add(cidr);
      }
      return found.size === 0 ? unreadable(expected) : value([...found]);
    },
    LONG,
  );
}

/** HTTP status codes, comma-separated. */
export function statusCodes<A extends readonly number[] | undefined = undefined>(
  doc: string,
  options: ReaderOptions<readonly number[], A> = {},
): Reader<readonly number[], A> {
  const expected = "a comma-separated list of status codes from 300 to 599";
  return reader("comma-separated status codes", doc, options, (given) => {
    const items = itemsOf(given, ",");
    const wrong = items.find((item) => !/^[345][0-9]{2}$/.test(item));
    if (wrong !== undefined || items.length === 0) return unreadable(expected);
    return value([...new Set(items.map(Number))]);
  });
}

/** The text of a regular expression; what is PCRE's alone is refused by name (`edge-config/pattern`). */
export function pattern<A extends string | undefined = undefined>(
  doc: string,
  { ignoreCase = false, ...options }: ReaderOptions<string, A> & { readonly ignoreCase?: boolean } = {},
): Reader<string, A> {
  return reader("regular expression", doc, options, (given) => {
    const compiled = compilePattern(given, { ignoreCase });
    return compiled.kind === "pattern"
      ? value(given)
      : unreadable(`a regular expression that can be honoured exactly (it ${compiled.reason})`);
  });
}

/** Text with variables of a closed list (`edge-config/template.ts`). */
export function template<A extends Template | undefined = undefined>(
  doc: string,
  options: ReaderOptions<Template, A> = {},
): Reader<Template, A> {
  return reader("text with variables", doc, options, parseTemplate);
}

/** An absolute `http` or `https` URL, variables allowed; `context.destination` says how it is reached. */
export function url<A extends UrlText | undefined = undefined>(
  doc: string,
  options: ReaderOptions<UrlText, A> = {},
): Reader<UrlText, A> {
  return reader("URL with variables", doc, options, parseUrl);
}

/** The name of a host, without a port. */
export function hostName<A extends string | undefined = undefined>(
  doc: string,
  options: ReaderOptions<string, A> = {},
): Reader<string, A> {
  return reader("host name", doc, options, (given) =>
    isDnsName(given.toLowerCase()) ? value(given.toLowerCase()) : unreadable("the name of a host"),
  );
}

/** The name of a Service in the Ingress' own namespace. */
export function serviceName<A extends string | undefined = undefined>(
  doc: string,
  options: ReaderOptions<string, A> = {},
): Reader<string, A> {
  return reader("name of a Service", doc, options, (given) =>
    isServiceName(given) ? value(given) : unreadable("the name of a Service in the Ingress' own namespace"),
  );
}

/** Names a Secret or a ConfigMap; without `namespace` that of the Ingress is meant. */
export interface Reference {
  readonly namespace?: string;
  readonly name: string;
}

/** `name` or `namespace/name`; `context.secret` and `context.configMap` look it up. */
export function reference<A extends Reference | undefined = undefined>(
  doc: string,
  kind: "Secret" | "ConfigMap",
  options: ReaderOptions<Reference, A> = {},
): Reader<Reference, A> {
  const byName = reader(`name or namespace/name of a ${kind}`, doc, options, (given) => {
    const parts = given.split("/");
    if (parts.length > 2 || !parts.every(isDnsName))
      return unreadable(`the name of a ${kind}, or namespace/name`);
    const [first, second] = parts;
    return value(second === undefined ? { name: first ?? "" } : { namespace: first ?? "", name: second });
  });
  return { ...byName, refersTo: kind };
}

/** A piece of somebody's input in a sentence: quoted, and cut when it is long. */
export function quote(given: string): string {
  return JSON.stringify(given.length > 120 ? `${given.slice(0, 117)}…` : given);
}
