/**
 * One HAProxy backend for each way to speak to a pod. All have the one server `0.0.0.0:0`, which stands for
 * whatever address the frontend set from the token; they differ in what HAProxy cannot change per request:
 * protocol, TLS, certificates, and whether a connection may be one that was idle.
 *
 * A way is written `SCHEME|VERIFY|SECRET|IDLE`, as `backends.map` looks it up: three fields of the token as they stand
 * there, and `reuse` or `fresh`.
 */

import type { TlsSecret } from "../dial.ts";
import { field } from "./frontend.ts";

export interface PodBackend {
  readonly name: string;
  /** Those of `backends.map` that lead here. */
  readonly ways: readonly string[];
  /** What follows the address of the server. */
  readonly server: string;
  /** Of requests, for this way alone. */
  readonly rules: readonly string[];
  readonly reuse: Reuse;
}

/**
 * - `retried`: idle connections, and a request that met a dead one is repeated.
 * - `fresh`: a connection of its own, since the request must not be repeated.
 * - `multiplexed`: HTTP/2, whose connections end with a word (GOAWAY) and which gRPC, all POST, lives from.
 */
type Reuse = "retried" | "fresh" | "multiplexed";

export function podBackends(tlsSecrets: ReadonlyMap<string, TlsSecret>): readonly PodBackend[] {
  const secrets: readonly (readonly [string, TlsSecret])[] = [
    ["", {}],
    ...[...tlsSecrets].sort(([a], [b]) => (a < b ? -1 : 1)),
  ];
  return [
    ...http1Backends("http", "http||", "", []),
    multiplexedBackend("h2c", "h2c||", "proto h2", h2Rules("http")),
    ...secrets.flatMap(([secret, files]) =>
      (["any", "verified"] as const).flatMap((check) => {
        const suffix = `:${check}${secret === "" ? "" : `:${secret.replace("/", ":")}`}`;
        const way = `${check === "verified" ? "on" : ""}|${secret}`;
        const tls = tlsParameters(check, secret, files);
        return [
          ...http1Backends(`https${suffix}`, `https|${way}`, `${tls} alpn http/1.1`, sniRules(check)),
          multiplexedBackend(`h2${suffix}`, `h2|${way}`, `${tls} alpn h2 proto h2`, [
            ...sniRules(check),
            ...h2Rules("https"),
          ]),
        ];
      }),
    ),
  ];
}

/** A check without a name would mean little, so it is for the name of the host. */
function sniRules(check: "any" | "verified"): readonly string[] {
  return [
    `http-request set-var(txn.sni) ${field("sni")} unless { ${field("sni")} -m len 0 }`,
    ...(check === "any"
      ? []
      : [
          `http-request set-var(txn.sni) ${field("host")},regsub(:[0-9]+$,) unless { var(txn.sni) -m found }`,
        ]),
  ];
}

function h2Rules(scheme: "http" | "https"): readonly string[] {
  return [
    "acl trailers req.hdr(te) -i trailers",
    "# gRPC servers insist on it, and the hop before took it off as one of its own.",
    "acl trailers req.hdr(content-type) -m beg application/grpc",
    "http-request set-header te trailers if trailers",
    "http-request del-header te unless trailers",
    "# HTTP/2 gets :authority and :scheme only from a whole URL; HAProxy would send Host instead.",
    `http-request set-uri ${scheme}://%[${field("host")}]%[pathq]`,
  ];
}

export function renderBackend({ name, server, rules, reuse }: PodBackend): string {
  return [
    `backend ${name}`,
    ...[...REUSE_LINES[reuse], ...rules].map((line) => `    ${line}`),
    "    http-response lua.connection-headers if { res.fhdr(connection) -m found }",
    "    http-response del-header fairlead- -m beg",
    "    http-response del-header keep-alive",
    "    http-response del-header proxy-connection",
    "    http-response del-header upgrade unless { status 101 }",
    `    server pod 0.0.0.0:0${server === "" ? "" : ` ${server}`}`,
  ].join("\n");
}

const REUSE_LINES: Readonly<Record<Reuse, readonly string[]>> = {
  // A refused connection is not tried again: the Worker knows other endpoints, and HAProxy would wait a second.
  retried: ["http-reuse always", "retries 3", "retry-on empty-response"],
  fresh: ["http-reuse never", "option http-server-close", "retries 0"],
  multiplexed: ["http-reuse always", "retries 0"],
};

function http1Backends(
  name: string,
  way: string,
  server: string,
  moreRules: readonly string[],
): readonly PodBackend[] {
  const rules = [...moreRules, "http-request del-header te"];
  return [
    { name, ways: [`${way}|reuse`], server, rules, reuse: "retried" },
    { name: `${name}:fresh`, ways: [`${way}|fresh`], server, rules, reuse: "fresh" },
  ];
}

function multiplexedBackend(name: string, way: string, server: string, rules: readonly string[]): PodBackend {
  return { name, ways: [`${way}|reuse`, `${way}|fresh`], server, rules, reuse: "multiplexed" };
}

/**
 * With `verify required` and no `verifyhost`, HAProxy checks the certificate for the name that it sends. Sessions
 * are not resumed: the server is another pod each time, and a resumed session skips the check.
 */
function tlsParameters(check: "any" | "verified", secret: string, { ca, cert, key }: TlsSecret): string {
  const file = secret.replace("/", ":");
  return [
    "ssl sni var(txn.sni) no-ssl-reuse",
    check === "any"
      ? "verify none"
      : `verify required ca-file ${ca === undefined ? "@system-ca" : `tls/${file}.ca.pem`}`,
    ...(cert === undefined || key === undefined ? [] : [`crt ${file}.pem`]),
  ].join(" ");
}
