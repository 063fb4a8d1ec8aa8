/**
 * The frontend: what happens to a request, from token to address. The rules run in the order in which they are
 * written; each step uses what the ones before left in variables, and a request that fails one is answered there.
 */

import {
  GATEWAY_ERROR_HEADER,
  type GatewayError,
  TARGET_HEADER,
  TOKEN_HEADER,
} from "../../edge-config/gateway-token.ts";
import { LOOPBACK, NEVER_DIALLED } from "../allowed-addresses.ts";
import type { HaproxySettings } from "./settings.ts";

/** `WORD` of `edge-config/gateway-token.ts`: nothing of a claim can break a line. */
const WORD = "-m reg ^[\\x21-\\x7e]{1,255}$";

/** Quoted for HAProxy: nothing in it is expanded. */
const quoted = (text: string): string => `'${text}'`;

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
    "use_backend %[var(txn.backend)]",
  ];
  return ["frontend gateway", ...rules.map((rule) => (rule === "" ? "" : `    ${rule}`))].join("\n");
}

/**
 * Nothing of a token is believed before its signature was checked with the key that its id names. Each part is decoded
 * once: `jwt_payload_query` would do it for every claim, which costs more than the check of the signature.
 */
function tokenRules(): readonly string[] {
  const claim = (name: string, type = ""): string =>
    `http-request set-var(txn.${name}) var(txn.claims),json_query('$.${name}'${type})`;
  const malformed = (condition: string): string => refuse("token", "its token is malformed", condition);
  return [
    refuse("token", "it needs one token", `unless { req.hdr_cnt(${TOKEN_HEADER}) eq 1 }`),
    `http-request set-var(txn.token) req.fhdr(${TOKEN_HEADER})`,
    "http-request set-var(txn.head) var(txn.token),field(1,.),ub64dec",
    "http-request set-var(txn.key) var(txn.head),json_query('$.kid'),map_str(keys.map),b64dec",
    refuse(
      "token",
      "its token is not signed with a known key",
      "unless { var(txn.head),json_query('$.alg') -m str HS256 } { var(txn.key) -m found } { var(txn.token),jwt_verify(HS256,txn.key) -m int 1 }",
    ),
    "",
    "http-request set-var(txn.claims) var(txn.token),field(2,.),ub64dec",
    ...["scheme", "host"].map((name) => claim(name)),
    ...["port", "exp"].map((name) => claim(name, ",'int'")),
    malformed(
      `unless { var(txn.host) ${WORD} } { var(txn.scheme) -m str http https h2c h2 } { var(txn.port) -m int 1:65535 } { var(txn.exp) -m found }`,
    ),
    refuse("expired", "the time of its token is over", "if { date(),sub(txn.exp) -m int ge 0 }"),
    "",
    "acl tls var(txn.scheme) -m str https h2",
    ...["sni", "verify", "tlsSecret"].map((name) => `${claim(name)} if tls`),
    malformed(`if tls { var(txn.sni) -m found } !{ var(txn.sni) ${WORD} }`),
    malformed("if tls { var(txn.verify) -m found } !{ var(txn.verify) -m str on }"),
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
    "http-request set-var(txn.ip) var(txn.claims),json_query('$.address'),ipmask(32,128)",
    "acl named var(txn.address) -m found",
    "http-request set-var(txn.address) var(txn.claims),json_query('$.address') unless { var(txn.ip) -m found }",
    refuse(
      "token",
      "its token is malformed",
      `unless { var(txn.ip) -m found } or { var(txn.address) ${WORD} }`,
    ),
    "http-request do-resolve(txn.ip,cluster,ipv4) var(txn.address) if named",
    refuse("connect", "the name of its endpoint does not resolve", "if named !{ var(txn.ip) -m found }"),
    "acl ipv6 var(txn.ip) -m sub :",
    `acl never_dialled ${matches(NEVER_DIALLED)}`,
    `acl mapped ${matches(["::ffff:0:0/96"])}`,
    `acl loopback ${matches(LOOPBACK)}`,
    "acl allowed_ipv4 var(txn.ip) -m ip -f allowed-ipv4.acl",
    "acl allowed_ipv6 var(txn.ip) -m ip -f allowed-ipv6.acl",
    ...(allowLoopback
      ? [refuseAddress("if never_dialled !loopback")]
      : [refuseAddress("if never_dialled or loopback")]),
    refuseAddress("if ipv6 mapped"),
    ...[refuseAddress("if !ipv6 !allowed_ipv4 !loopback"), refuseAddress("if ipv6 !allowed_ipv6 !loopback")],
    "http-request set-dst var(txn.ip)",
    "http-request set-dst-port var(txn.port)",
  ];
}

/** Which backend: see `backends.ts`. Most requests are plain http, so theirs is not looked up. */
function wayRules(): readonly string[] {
  return [
    "# What has no body and changes nothing may be sent twice.",
    "acl repeatable method GET HEAD OPTIONS",
    "acl with_body req.hdr(content-length) -m int gt 0",
    "acl with_body req.hdr(transfer-encoding) -m found",
    "acl plain var(txn.scheme) -m str http",
    "http-request set-var(txn.backend) str(http:fresh) if plain",
    "http-request set-var(txn.backend) str(http) if plain repeatable !with_body",
    "acl verified var(txn.verify) -m found",
    "# A check without a name would mean little, so it is for the name of the host.",
    "http-request set-var(txn.sni) var(txn.host),regsub(:[0-9]+$,) if tls verified !{ var(txn.sni) -m found }",
    "http-request set-var(txn.check) str(plain) unless plain",
    "http-request set-var(txn.check) str(any) if tls",
    "http-request set-var(txn.check) str(verified) if tls verified",
    "http-request set-var(txn.idle) str(fresh) unless plain",
    "http-request set-var(txn.idle) str(reuse) if !plain repeatable !with_body",
    'http-request set-var-fmt(txn.way) "%[var(txn.scheme)]/%[var(txn.check)]/%[var(txn.idle)]/%[var(txn.tlsSecret)]" unless plain',
    "http-request set-var(txn.backend) var(txn.way),map_str(backends.map) unless plain",
    refuse("connect", "the Secret of its token is not known here", "unless { var(txn.backend) -m found }"),
  ];
}

function headerRules(): readonly string[] {
  return [
    "# The target as the client wrote it, where `fetch` would have written it anew.",
    `acl exact req.fhdr(${TARGET_HEADER}) -m found`,
    refuse(
      "token",
      "its target is malformed",
      `if exact !{ req.fhdr(${TARGET_HEADER}) -m reg ^/[\\x21-\\x7e\\x80-\\xff]*$ }`,
    ),
    `http-request set-uri %[req.fhdr(${TARGET_HEADER})] if exact`,
    "acl upgrade req.hdr(connection) -i upgrade",
    "# Sends `100 Continue`, then waits for the beginning of the body.",
    "http-request wait-for-body time 60s at-least 1 if { req.hdr(expect) -i 100-continue }",
    "http-request lua.connection-headers if { req.fhdr(connection) -m found }",
    "http-request set-header te trailers if { req.hdr(te) -i trailers } { var(txn.scheme) -m str h2c h2 }",
    "# gRPC servers insist on it, and the hop before took it off as one of its own.",
    "http-request set-header te trailers if { var(txn.scheme) -m str h2c h2 } { req.hdr(content-type) -m beg application/grpc }",
    "http-request del-header te unless { var(txn.scheme) -m str h2c h2 }",
    "http-request del-header upgrade unless upgrade",
    ...[
      "keep-alive",
      "proxy-connection",
      "expect",
      TOKEN_HEADER,
      TARGET_HEADER,
      "cf-worker",
      "cf-ew-via",
    ].map((name) => `http-request del-header ${name}`),
    "http-request set-header host %[var(txn.host)]",
    "# HTTP/2 gets :authority and :scheme only from a whole URL; HAProxy would send Host instead.",
    "http-request set-uri http://%[var(txn.host)]%[pathq] if { var(txn.scheme) -m str h2c }",
    "http-request set-uri https://%[var(txn.host)]%[pathq] if { var(txn.scheme) -m str h2 }",
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
