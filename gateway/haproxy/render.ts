/**
 * HAProxy as the gateway of a cluster: the whole of its configuration, for Debian's 2.6 and later.
 *
 * In: an operator's settings. Out: `haproxy.cfg` and the files beside it, the same bytes for the same settings.
 * `../README.md` is the contract that the result keeps. Not here: reading flags, writing files
 * (`cli/commands/gateway.ts`).
 *
 * Keys and CIDRs are files of their own (`keys.map`, `allowed-*.acl`), so that HAProxy's runtime API changes them
 * without a restart: `add map keys.map ID BASE64`, `add acl allowed-ipv4.acl 10.9.0.0/16`.
 */

import { createAddressPolicy } from "../allowed-addresses.ts";
import { type PodBackend, podBackends, renderBackend } from "./backends.ts";
import { CONNECTION_HEADERS_SCRIPT } from "./connection-headers.ts";
import { errorFiles } from "./errors.ts";
import { renderFrontend, VERIFIED_TOKENS } from "./frontend.ts";
import type { HaproxySettings, RenderedFile } from "./settings.ts";
import { passthroughMap, renderTcp, type TcpBackend, tcpBackends } from "./tcp.ts";

/** Room beside the head, for what rules write (`tune.maxrewrite`). */
const REWRITE_KIBIBYTES = 4;

const MAX_OPEN_FILES = 50_000;

/** Throws a `RangeError` with a sentence when a CIDR is none. */
export function renderHaproxy(settings: HaproxySettings): readonly RenderedFile[] {
  return render(settings, tcpBackendsOf(settings));
}

/** Where endpoints are passed on to as TCP: all that a running HAProxy changes without a reload (`servers.ts`). */
export function tcpBackendsOf(settings: HaproxySettings): readonly TcpBackend[] {
  return tcpBackends(settings, createAddressPolicy(settings));
}

/** Equal for two settings between which no more than the servers of those backends differ. */
export function renderWithoutServers(settings: HaproxySettings): string {
  return JSON.stringify(
    render(
      settings,
      tcpBackendsOf(settings).map(({ name }) => ({ name, servers: [] })),
    ),
  );
}

function render(settings: HaproxySettings, tcp: readonly TcpBackend[]): readonly RenderedFile[] {
  const backends = podBackends(settings.tlsSecrets);
  const cidrs = [...new Set(settings.allowedCidrs)].sort();
  return [
    { name: "haproxy.cfg", text: renderConfiguration(settings, backends, tcp), secret: false },
    {
      name: "keys.map",
      text: lines(settings.keys.map(({ id, bytes }) => `${id} ${Buffer.from(bytes).toString("base64")}`)),
      secret: true,
    },
    { name: "allowed-ipv4.acl", text: lines(cidrs.filter((cidr) => !cidr.includes(":"))), secret: false },
    { name: "allowed-ipv6.acl", text: lines(cidrs.filter((cidr) => cidr.includes(":"))), secret: false },
    {
      name: "backends.map",
      text: lines(backends.flatMap(({ name, ways }) => ways.map((way) => `${way} ${name}`))),
      secret: false,
    },
    ...(settings.passthrough === undefined
      ? []
      : [{ name: "passthrough.map", text: lines(passthroughMap(settings.passthrough)), secret: false }]),
    { name: "connection-headers.lua", text: CONNECTION_HEADERS_SCRIPT, secret: false },
    ...errorFiles,
    ...secretFiles(settings),
  ];
}

function renderConfiguration(
  settings: HaproxySettings,
  backends: readonly PodBackend[],
  tcp: readonly TcpBackend[],
): string {
  const parts = [
    "# Written by `fairlead gateway render`; change its settings, not this file.",
    renderGlobal(settings),
    renderDefaults(settings),
    renderResolvers(settings),
    renderHealth(settings),
    VERIFIED_TOKENS,
    renderFrontend(settings),
    ...backends.map(renderBackend),
    ...renderTcp(settings, tcp),
  ];
  return `${parts.join("\n\n")}\n`;
}

function renderGlobal({
  folder,
  maxHeadKibibytes,
  maxConnections,
  drainSeconds,
  adminSocket,
}: HaproxySettings): string {
  return section("global", [
    "default-path config",
    "# Certificates of servers are read after the paths above were forgotten.",
    `crt-base ${folder}/tls`,
    "log stdout format raw local0 notice",
    // Two files a connection; without a bound, a container that may open a million would buy memory for all.
    maxConnections === undefined ? `fd-hard-limit ${MAX_OPEN_FILES}` : `maxconn ${maxConnections}`,
    `hard-stop-after ${drainSeconds}s`,
    "# Many reloads in a row leave no more processes with old connections than this.",
    "mworker-max-reloads 20",
    `tune.bufsize ${(maxHeadKibibytes + REWRITE_KIBIBYTES) * 1024}`,
    `tune.maxrewrite ${REWRITE_KIBIBYTES * 1024}`,
    "tune.http.maxhdr 1000",
    "lua-load connection-headers.lua",
    ...(adminSocket === undefined ? [] : [`stats socket ${adminSocket} mode 600 level admin`]),
  ]);
}

function renderDefaults({ connectTimeoutMs }: HaproxySettings): string {
  return section("defaults", [
    "mode http",
    "log global",
    "option dontlognull",
    "option dontlog-normal",
    "option http-keep-alive",
    "# A client that went away takes its request to the pod with it.",
    "option abortonclose",
    "# The Worker limits how long an answer may take, per route: here only dead peers are looked for.",
    "option clitcpka",
    "option srvtcpka",
    "option http-no-delay",
    "# A reload ends a kept connection with its next answer, never under a request that is on its way.",
    "option idle-close-on-response",
    `timeout connect ${connectTimeoutMs}ms`,
    "timeout client 24d",
    "timeout server 24d",
    "timeout tunnel 24d",
    "timeout client-fin 30s",
    "timeout server-fin 30s",
    "timeout http-request 60s",
    "timeout http-keep-alive 75s",
    "errorfile 502 502.http",
    "errorfile 503 503.http",
    "errorfile 504 502.http",
  ]);
}

function renderResolvers({ nameservers, connectTimeoutMs }: HaproxySettings): string {
  return section("resolvers cluster", [
    ...(nameservers.length === 0
      ? ["parse-resolv-conf"]
      : nameservers.map((address, at) => `nameserver dns${at} ${address}`)),
    "accepted_payload_size 8192",
    "resolve_retries 2",
    `timeout resolve ${Math.ceil(connectTimeoutMs / 3)}ms`,
    `timeout retry ${Math.ceil(connectTimeoutMs / 3)}ms`,
    "hold valid 5s",
    "hold nx 1s",
  ]);
}

function renderHealth({ healthListen }: HaproxySettings): string {
  return section("frontend health", [
    `bind ${healthListen}`,
    "monitor-uri /healthz",
    "http-request use-service prometheus-exporter if { path /metrics }",
    'http-request return status 404 content-type text/plain string "Here are /healthz and /metrics."',
  ]);
}

/** `ca.crt` by itself; certificate and key in one file, as `crt` wants them. */
function* secretFiles({ listenCertificate, tlsSecrets }: HaproxySettings): Generator<RenderedFile> {
  if (listenCertificate !== undefined)
    yield { name: "tls/listen.pem", text: listenCertificate, secret: true };
  for (const [name, { ca, cert, key }] of sortedSecrets(tlsSecrets)) {
    const file = `tls/${name.replace("/", ":")}`;
    if (ca !== undefined) yield { name: `${file}.ca.pem`, text: ca, secret: false };
    if (cert !== undefined && key !== undefined)
      yield { name: `${file}.pem`, text: `${cert.trimEnd()}\n${key.trimEnd()}\n`, secret: true };
  }
}

function sortedSecrets<T>(secrets: ReadonlyMap<string, T>): readonly (readonly [string, T])[] {
  return [...secrets].sort(([a], [b]) => (a < b ? -1 : 1));
}

function section(head: string, body: readonly string[]): string {
  return [head, ...body.map((line) => `    ${line}`)].join("\n");
}

function lines(list: readonly string[]): string {
  return list.map((line) => `${line}\n`).join("");
}
