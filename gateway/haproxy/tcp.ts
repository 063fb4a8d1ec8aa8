/**
 * What HAProxy passes on as plain TCP: TLS that ends at pods, told apart by its server name, and TCP services.
 *
 * In: hosts and services with their endpoints. Out: sections of the configuration and `passthrough.map`. The servers are
 * the endpoints themselves, in turn; one that refuses costs a client nothing, since the next one is tried at once.
 * A change of endpoints needs a new rendering and a reload, which connections under way survive.
 */

import { parseEndpoint } from "../../edge-config/gateway-token.ts";
import type { AddressPolicy } from "../allowed-addresses.ts";
import { IDLE_TIMEOUT_MS } from "../relay.ts";
import type { HaproxySettings, PassthroughSettings, TcpServiceSettings } from "./settings.ts";

const MAX_TRIES = 3;

/** Sections for everything that is passed on as TCP; they have defaults of their own and stand last. */
export function renderTcp(
  {
    passthrough,
    tcpServices,
    tcpAddress,
    connectTimeoutMs,
  }: Pick<HaproxySettings, "passthrough" | "tcpServices" | "tcpAddress" | "connectTimeoutMs">,
  allows: AddressPolicy,
): readonly string[] {
  const sections = [
    ...(passthrough === undefined ? [] : renderPassthrough(passthrough, allows)),
    ...tcpServices.flatMap((service) => renderTcpService(service, tcpAddress, allows)),
  ];
  return sections.length === 0 ? [] : [renderDefaults(connectTimeoutMs), ...sections];
}

function renderDefaults(connectTimeoutMs: number): string {
  return section("defaults", [
    "mode tcp",
    "log global",
    "option dontlognull",
    "option dontlog-normal",
    "option clitcpka",
    "option srvtcpka",
    `timeout connect ${connectTimeoutMs}ms`,
    `timeout client ${IDLE_TIMEOUT_MS}ms`,
    `timeout server ${IDLE_TIMEOUT_MS}ms`,
    "# An endpoint that refuses is left for another one at once.",
    `retries ${MAX_TRIES - 1}`,
    "option redispatch 1",
    "balance roundrobin",
  ]);
}

/** Server name → backend; a wildcard begins with a dot here. */
export function passthroughMap({ hosts }: PassthroughSettings): readonly string[] {
  return [...hosts].map(
    ([host, target]) =>
      `${host.replace(/^\*/, "")} ${target === undefined ? OTHERWISE : backendName(target.backend)}`,
  );
}

const OTHERWISE = "tls-otherwise";

function renderPassthrough(
  { listen, acceptsProxy, hosts, otherwise }: PassthroughSettings,
  allows: AddressPolicy,
): readonly string[] {
  const targets = new Map(
    [...hosts.values()].flatMap((target) =>
      target === undefined ? [] : [[backendName(target.backend), target.endpoints] as const],
    ),
  );
  return [
    section("frontend passthrough", [
      `bind ${listen}${acceptsProxy ? " accept-proxy" : ""}`,
      "# The first message of TLS may come in pieces; it is read, never answered.",
      "tcp-request inspect-delay 30s",
      "tcp-request content accept if { req.ssl_hello_type 1 }",
      "tcp-request content reject",
      "use_backend %[req.ssl_sni,lower,map_str(passthrough.map)] if { req.ssl_sni,lower,map_str(passthrough.map) -m found }",
      "# A wildcard stands for one label.",
      "use_backend %[req.ssl_sni,lower,regsub(^[^.]*,),map_str(passthrough.map)] if { req.ssl_sni,lower,regsub(^[^.]*,),map_str(passthrough.map) -m found }",
      `default_backend ${OTHERWISE}`,
    ]),
    ...[...targets].map(([name, endpoints]) => renderTcpBackend(name, endpoints, "", allows)),
    renderTcpBackend(OTHERWISE, otherwise === undefined ? [] : [otherwise], "", () => true),
  ];
}

/** A service without endpoints has no port, as in ingress-nginx: clients are refused at once. */
function renderTcpService(
  { port, name, endpoints, acceptsProxy, sendsProxy }: TcpServiceSettings,
  address: string | undefined,
  allows: AddressPolicy,
): readonly string[] {
  const id = `tcp:${port}`;
  const proxy = sendsProxy === undefined ? "" : sendsProxy === "v1" ? " send-proxy" : " send-proxy-v2";
  if (!endpoints.some((endpoint) => isAllowed(endpoint, allows))) return [];
  return [
    section(`frontend ${id}`, [
      `# ${name}`,
      `bind ${address ?? ""}:${port}${acceptsProxy ? " accept-proxy" : ""}`,
      `default_backend ${id}`,
    ]),
    renderTcpBackend(id, endpoints, proxy, allows),
  ];
}

function renderTcpBackend(
  name: string,
  endpoints: readonly string[],
  parameters: string,
  allows: AddressPolicy,
): string {
  const servers = endpoints.filter((endpoint) => isAllowed(endpoint, allows));
  return section(
    `backend ${name}`,
    servers.map((endpoint) => `server ${endpoint.replaceAll(/[[\]]/g, "")} ${endpoint}${parameters}`),
  );
}

/** Names are left out: nothing would check the address that they resolve to later. */
function isAllowed(endpoint: string, allows: AddressPolicy): boolean {
  const place = parseEndpoint(endpoint);
  return place !== undefined && allows(place.address);
}

/** `tls:shop:vault:443`; a slash is no character of such names. */
function backendName(backend: string): string {
  return `tls:${backend.replace("/", ":")}`;
}

function section(head: string, body: readonly string[]): string {
  return [head, ...body.map((line) => `    ${line}`)].join("\n");
}
