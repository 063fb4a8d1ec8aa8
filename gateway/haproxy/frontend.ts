/**
 * The frontend: what happens to a request, from token to address. The rules run in the order in which they are
 * written; each step uses what the ones before left in variables, and a request that fails one is answered there.
 *
 * Rules are what a request costs here, so hardly any runs for a token that was seen before: all that was found out about
 * one is remembered in a table (`VERIFIED_TOKENS`) until its time is over. What only some ways to a pod need stands in their
 * backends (`backends.ts`).
 */

import {
  GATEWAY_ERROR_HEADER,
  type GatewayError,
  TARGET_HEADER,
  TOKEN_HEADER,
} from "../../edge-config/gateway-token.ts";
import { LOOPBACK, NEVER_DIALLED } from "../allowed-addresses.ts";
import type { HaproxySettings } from "./settings.ts";

/** Quoted for HAProxy: nothing in it is expanded. */
const quoted = (text: string): string => `'${text}'`;

/** A field of the token, counted from 1, or `count` of them with the bars between them (0: all to the end). */
export function field(number: keyof typeof FIELDS, count?: number): string {
  return `var(txn.token),field(${FIELDS[number]},|${count === undefined ? "" : `,${count}`})`;
}

/** As `edge-config/gateway-token.ts` writes them. */
const FIELDS = {
  signature: 1,
  keyId: 2,
  exp: 3,
  scheme: 4,
  verify: 5,
  tlsSecret: 6,
  address: 7,
  port: 8,
  host: 9,
  sni: 10,
  connectTimeoutMs: 11,
} as const;

/** `WORD` there: nothing of a field can break a line. */
const WORD = "[!-{}~]{1,255}";
const FORM = [
  "[A-Za-z0-9_-]{43}",
  "[A-Za-z0-9._-]{1,64}",
  "[0-9]{1,12}",
  "(http|https|h2c|h2)",
  "(on)?",
  `(${WORD})?`,
  WORD,
  "[0-9]{1,5}",
  WORD,
  `(${WORD})?`,
  "([0-9.]{1,12})?",
].join("[|]");

/**
 * Tokens that this process has found to be right, with the key that signed them, so that a key that was taken off or
 * replaced takes its tokens along; and until when. Longer ones are checked each time. An entry of 512 bytes makes 20 000
 * of them 12 MB; when it is full, the oldest go.
 */
const LONGEST_REMEMBERED = 500;
export const VERIFIED_TOKENS = `backend verified-tokens
    stick-table type string len ${LONGEST_REMEMBERED + 12} size 20k expire 3m store gpt0`;

export function renderFrontend(settings: HaproxySettings): string {
  const tls = settings.listenCertificate === undefined ? "" : " ssl crt listen.pem alpn h2,http/1.1";
  const rules = [
    `bind ${settings.listen}${tls}`,
    "",
    ...tokenRules(),
    "",
    ...addressRules(settings.allowLoopback === true),
    "",
    ...wayRules(),
    "",
    ...headerRules(),
    "",
    "use_backend http if plain repeatable !with_body",
    "use_backend http:fresh if plain",
    "use_backend %[var(txn.backend)]",
  ];
  return ["frontend gateway", ...rules.map((rule) => (rule === "" ? "" : `    ${rule}`))].join("\n");
}

/** Nothing of a token is believed before its signature was checked with the key that its id names. */
function tokenRules(): readonly string[] {
  return [
    refuse("token", "it needs one token", `unless { req.hdr_cnt(${TOKEN_HEADER}) eq 1 }`),
    `http-request set-var(txn.token) req.fhdr(${TOKEN_HEADER})`,
    `http-request set-var(txn.key) ${field("keyId")},map_str(keys.map)`,
    "# Seen before, signed with the key that its id names now, and its time is not over.",
    "http-request set-var(txn.until) var(txn.token),concat(,txn.key),table_gpt0(verified-tokens)",
    "http-request set-var(txn.new) bool(true) unless { date(),sub(txn.until) -m int lt 0 }",
    "acl new var(txn.new) -m found",
    "",
    `http-request set-var(txn.signature) ${field("signature")} if new`,
    refuse(
      "token",
      "its token is not signed with a known key",
      `if new !{ ${field("keyId", 0)},hmac(sha256,txn.key),ub64enc,secure_memcmp(txn.signature) }`,
    ),
    refuse(
      "token",
      "its token is malformed",
      `if new !{ var(txn.token) -m reg ${quoted(`^${FORM}$`)} } or new !{ ${field("port")} -m int 1:65535 }`,
    ),
    `http-request set-var(txn.exp) ${field("exp")},add(0) if new`,
    refuse("expired", "the time of its token is over", "if new { date(),sub(txn.exp) -m int ge 0 }"),
  ];
}

/**
 * The families are kept apart: HAProxy finds IPv4 addresses in `::/0` and IPv4-mapped ones in IPv4 networks,
 * and vice versa. 2.6 reads a mapped address as the IPv4 address that it means; where a later one does not, it is refused.
 */
function addressRules(allowLoopback: boolean): readonly string[] {
  const matches = (networks: readonly string[]): string => `var(txn.ip) -m ip ${networks.join(" ")}`;
  return [
    "# Stays empty unless the address is an IP address; then it is a name.",
    `http-request set-var(txn.ip) ${field("address")},ipmask(32,128) if new`,
    "http-request set-var(txn.named) bool(true) if new !{ var(txn.ip) -m found }",
    "acl named var(txn.named) -m found",
    `http-request do-resolve(txn.ip,cluster,ipv4) ${field("address")} if named`,
    refuse("connect", "the name of its endpoint does not resolve", "if named !{ var(txn.ip) -m found }"),
    "acl ipv6 var(txn.ip) -m sub :",
    `acl never_dialled ${matches(NEVER_DIALLED)}`,
    `acl mapped ${matches(["::ffff:0:0/96"])}`,
    `acl loopback ${matches(LOOPBACK)}`,
    "acl allowed_ipv4 var(txn.ip) -m ip -f allowed-ipv4.acl",
    "acl allowed_ipv6 var(txn.ip) -m ip -f allowed-ipv6.acl",
    ...(allowLoopback
      ? [refuseAddress("if new never_dialled !loopback")]
      : [refuseAddress("if new never_dialled or new loopback")]),
    refuseAddress("if new ipv6 mapped"),
    refuseAddress("if new !ipv6 !allowed_ipv4 !loopback"),
    refuseAddress("if new ipv6 !allowed_ipv6 !loopback"),
    "# What a name resolves to may change.",
    `http-request track-sc0 var(txn.token),concat(,txn.key) table verified-tokens if new !named { var(txn.token),concat(,txn.key),length le ${LONGEST_REMEMBERED} }`,
    "http-request sc-set-gpt0(0) var(txn.exp) if new { sc_tracked(0) }",
    "",
    `http-request set-dst ${field("address")}`,
    "http-request set-dst var(txn.ip) if named",
    `http-request set-dst-port ${field("port")}`,
  ];
}

/** Which backend: see `backends.ts`. Most requests are plain http, so theirs is not looked up. */
function wayRules(): readonly string[] {
  const way = (idle: "reuse" | "fresh"): string =>
    `http-request set-var-fmt(txn.way) "%[${field("scheme", 3)}]|${idle}"`;
  return [
    `http-request set-var(txn.scheme) ${field("scheme")}`,
    "acl plain var(txn.scheme) -m str http",
    "# What has no body and changes nothing may be sent twice.",
    "acl repeatable method GET HEAD OPTIONS",
    "acl with_body req.hdr(content-length) -m int gt 0",
    "acl with_body req.hdr(transfer-encoding) -m found",
    `${way("fresh")} unless plain`,
    `${way("reuse")} if !plain repeatable !with_body`,
    "http-request set-var(txn.backend) var(txn.way),map_str(backends.map) unless plain",
    refuse(
      "connect",
      "the Secret of its token is not known here",
      "unless plain or { var(txn.backend) -m found }",
    ),
  ];
}

function headerRules(): readonly string[] {
  return [
    "# The target as the client wrote it, where `fetch` would have written it anew.",
    `http-request set-var(txn.target) req.fhdr(${TARGET_HEADER})`,
    "acl exact var(txn.target) -m found",
    refuse(
      "token",
      "its target is malformed",
      "if exact !{ var(txn.target) -m reg ^/[\\x21-\\x7e\\x80-\\xff]*$ }",
    ),
    "http-request set-uri %[var(txn.target)] if exact",
    "# Sends `100 Continue`, then waits for the beginning of the body.",
    "http-request wait-for-body time 60s at-least 1 if { req.hdr(expect) -i 100-continue }",
    "http-request lua.connection-headers if { req.fhdr(connection) -m found }",
    "http-request del-header upgrade unless { req.hdr(connection) -i upgrade }",
    ...["keep-alive", "proxy-connection", "expect", "cf-worker", "cf-ew-via"].map(
      (name) => `http-request del-header ${name}`,
    ),
    "http-request del-header fairlead- -m beg",
    `http-request set-header host %[${field("host")}]`,
  ];
}

function refuseAddress(condition: string): string {
  return refuse("address", "its endpoint is not among the addresses that this gateway may dial", condition);
}

function refuse(error: GatewayError, reason: string, condition: string): string {
  const status = error === "connect" || error === "response" ? 502 : 403;
  return [
    `http-request return status ${status} content-type ${quoted("text/plain; charset=utf-8")}`,
    `string "The gateway did not pass this request on: ${reason}.\\n"`,
    `hdr cache-control no-store hdr ${GATEWAY_ERROR_HEADER} ${error} ${condition}`,
  ].join(" ");
}
