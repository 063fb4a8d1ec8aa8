/**
 * The frontend: what happens to a request, from token to address. The rules run in the order in which they are
 * written; each step uses what the ones before left in variables, and a request that fails one is answered there.
 */

import { GATEWAY_ERROR_HEADER, type GatewayError, TOKEN_HEADER } from "../../edge-config/gateway-token.ts";
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

/** Nothing of a token is believed before its signature was checked with the key that its id names. */
function tokenRules(): readonly string[] {
  const claim = (name: string, type = ""): string =>
    `http-request set-var(txn.${name}) var(txn.token),jwt_payload_query('$.${name}'${type})`;
  const malformed = (condition: string): string => refuse("token", "its token is malformed", condition);
  return [
    refuse("token", "it needs one token", `unless { req.hdr_cnt(${TOKEN_HEADER}) eq 1 }`),
    `http-request set-var(txn.token) req.fhdr(${TOKEN_HEADER})`,
    "http-request set-var(txn.kid) var(txn.token),jwt_header_query('$.kid')",
    "http-request set-var(txn.key) var(txn.kid),map_str(keys.map),b64dec",
    refuse(
      "token",
      "its token is not signed with a known key",
      "unless { var(txn.token),jwt_header_query('$.alg') -m str HS256 } { var(txn.key) -m found }",
    ),
    refuse(
      "token",
      "the signature of its token is wrong",
      "unless { var(txn.token),jwt_verify(HS256,txn.key) -m int 1 }",
    ),
    "",
    ...["address", "scheme", "host", "sni", "verify", "tlsSecret"].map((name) => claim(name)),
    ...["port", "exp"].map((name) => claim(name, ",'int'")),
    malformed(`unless { var(txn.address) ${WORD} } { var(txn.host) ${WORD} }`),
    malformed("unless { var(txn.scheme) -m str http https h2c h2 } { var(txn.port) -m int 1:65535 }"),
    malformed(`if { var(txn.sni) -m found } !{ var(txn.sni) ${WORD} }`),
    malformed("if { var(txn.verify) -m found } !{ var(txn.verify) -m str on }"),
    malformed("unless { var(txn.exp) -m found }"),
    "http-request set-var(txn.now) date()",
    refuse("expired", "the time of its token is over", "if { var(txn.exp),sub(txn.now) -m int lt 1 }"),
  ];
}

/**
 * The families are kept apart: HAProxy finds IPv4 addresses in `::/0` and IPv4-mapped ones in IPv4 networks,
 * and vice versa. 2.6 reads a mapped address as the IPv4 address that it means; where a later one does not, it is refused.
 */
function addressRules(allowLoopback: boolean): readonly string[] {
  const matches = (networks: readonly string[]): string => `var(txn.ip) -m ip ${networks.join(" ")}`;
  return [
    "# Stays empty unless the address is an IP address.",
    "http-request set-var(txn.ip) var(txn.address),ipmask(32,128)",
    "http-request do-resolve(txn.ip,cluster,ipv4) var(txn.address) unless { var(txn.ip) -m found }",
    refuse("connect", "the name of its endpoint does not resolve", "unless { var(txn.ip) -m found }"),
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
    ...[refuseAddress("if !loopback !ipv6 !allowed_ipv4"), refuseAddress("if !loopback ipv6 !allowed_ipv6")],
    "http-request set-dst var(txn.ip)",
    "http-request set-dst-port var(txn.port)",
  ];
}

/** Which backend: see `backends.ts`. */
function wayRules(): readonly string[] {
  return [
    "acl tls var(txn.scheme) -m str https h2",
    "acl verified var(txn.verify) -m found",
    "# What has no body and changes nothing may be sent twice.",
    "acl repeatable method GET HEAD OPTIONS",
    "acl with_body req.hdr(content-length) -m int gt 0",
    "acl with_body req.hdr(transfer-encoding) -m found",
    "http-request set-var(txn.check) str(plain)",
    "http-request set-var(txn.check) str(any) if tls",
    "http-request set-var(txn.check) str(verified) if tls verified",
    "http-request set-var(txn.idle) str(fresh)",
    "http-request set-var(txn.idle) str(reuse) if repeatable !with_body",
    "http-request unset-var(txn.tlsSecret) unless tls",
    "# A check without a name would mean little, so it is for the name of the host.",
    "http-request set-var(txn.sni) var(txn.host),regsub(:[0-9]+$,) if verified !{ var(txn.sni) -m found }",
    'http-request set-var-fmt(txn.way) "%[var(txn.scheme)]/%[var(txn.check)]/%[var(txn.idle)]/%[var(txn.tlsSecret)]"',
    "http-request set-var(txn.backend) var(txn.way),map_str(backends.map)",
    refuse("connect", "the Secret of its token is not known here", "unless { var(txn.backend) -m found }"),
  ];
}

function headerRules(): readonly string[] {
  return [
    "acl upgrade req.hdr(connection) -i upgrade",
    "# Sends `100 Continue`, then waits for the beginning of the body.",
    "http-request wait-for-body time 60s at-least 1 if { req.hdr(expect) -i 100-continue }",
    "http-request lua.connection-headers if { req.fhdr(connection) -m found }",
    "http-request set-header te trailers if { req.hdr(te) -i trailers } { var(txn.scheme) -m str h2c h2 }",
    "http-request del-header te unless { var(txn.scheme) -m str h2c h2 }",
    "http-request del-header upgrade unless upgrade",
    ...["keep-alive", "proxy-connection", "expect", TOKEN_HEADER, "cf-worker", "cf-ew-via"].map(
      (name) => `http-request del-header ${name}`,
    ),
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
