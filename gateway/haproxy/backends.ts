/**
 * One HAProxy backend for each way to speak to a pod. All have the one server `0.0.0.0:0`, which stands for
 * whatever address the frontend set from the token; they differ in what HAProxy cannot change per request:
 * protocol, TLS, certificates, and whether a connection may be one that was idle.
 *
 * A way is written `SCHEME/CHECK/IDLE/SECRET`, as `backends.map` looks it up: CHECK is `plain`, `any` (whatever
 * certificate) or `verified`; IDLE is `reuse` or `fresh`; SECRET is `namespace/name` or nothing.
 */

import type { TlsSecret } from "../dial.ts";

export interface PodBackend {
  readonly name: string;
  /** Those of `backends.map` that lead here. */
  readonly ways: readonly string[];
  /** What follows the address of the server. */
  readonly server: string;
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
    ...http1Backends("http", "http/plain", "", ""),
    multiplexedBackend("h2c", "h2c/plain", "", "proto h2"),
    ...secrets.flatMap(([secret, files]) =>
      (["any", "verified"] as const).flatMap((check) => {
        const suffix = `:${check}${secret === "" ? "" : `:${secret.replace("/", ":")}`}`;
        const tls = tlsParameters(check, secret, files);
        return [
          ...http1Backends(`https${suffix}`, `https/${check}`, secret, `${tls} alpn http/1.1`),
          multiplexedBackend(`h2${suffix}`, `h2/${check}`, secret, `${tls} alpn h2 proto h2`),
        ];
      }),
    ),
  ];
}

export function renderBackend({ name, server, reuse }: PodBackend): string {
  return [
    `backend ${name}`,
    ...REUSE_LINES[reuse].map((line) => `    ${line}`),
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

function http1Backends(name: string, way: string, secret: string, server: string): readonly PodBackend[] {
  return [
    { name, ways: [`${way}/reuse/${secret}`], server, reuse: "retried" },
    { name: `${name}:fresh`, ways: [`${way}/fresh/${secret}`], server, reuse: "fresh" },
  ];
}

function multiplexedBackend(name: string, way: string, secret: string, server: string): PodBackend {
  const ways = [`${way}/reuse/${secret}`, `${way}/fresh/${secret}`];
  return { name, ways, server, reuse: "multiplexed" };
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
