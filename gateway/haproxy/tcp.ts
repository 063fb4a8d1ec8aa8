/**
 * What HAProxy passes on as plain TCP: TLS that ends at pods, told apart by its server name, and TCP services.
 *
 * In: hosts and services with their endpoints. Out: sections of the configuration and `passthrough.map`. The servers are
 * the endpoints themselves, in turn; one that refuses costs a client nothing, since the next one is tried at once.
 * A server is named like its endpoint, so that a running HAProxy can be given others (`servers.ts`).
 */

import { parseEndpoint } from "../../edge-config/gateway-token.ts";
import type { AddressPolicy } from "../allowed-addresses.ts";
import { IDLE_TIMEOUT_MS } from "../relay.ts";
import type { HaproxySettings, PassthroughSettings, TcpServiceSettings } from "./settings.ts";

const MAX_TRIES = 3;

export interface TcpBackend {
  readonly name: string;
  readonly servers: readonly TcpServer[];
}

export interface TcpServer {
  /** Unique in its backend: the endpoint, without brackets. */
  readonly name: string;
  /** What follows the name in the configuration, and in the command `add server`. */
  readonly parameters: string;
}

type TcpSettings = Pick<HaproxySettings, "passthrough" | "tcpServices" | "tcpAddress" | "connectTimeoutMs">;

/** Sections for everything that is passed on as TCP; they have defaults of their own and stand last. */
export function renderTcp(
  { passthrough, tcpServices, tcpAddress, connectTimeoutMs }: TcpSettings,
  backends: readonly TcpBackend[],
): readonly string[] {
  const services = new Map(tcpServices.map((service) => [serviceName(service.port), service]));
  const sections = [
    ...(passthrough === undefined ? [] : [renderPassthrough(passthrough)]),
    ...backends.flatMap((backend) => {
      const service = services.get(backend.name);
      return [
        ...(service === undefined ? [] : [renderTcpService(service, tcpAddress)]),
        renderTcpBackend(backend),
      ];
    }),
  ];
  return sections.length === 0 ? [] : [renderDefaults(connectTimeoutMs), ...sections];
}

/**
 * The backends of hosts and of services. One of a host stands there without servers too, and its connections are closed;
 * a service without endpoints has no port, as in ingress-nginx, so that clients are refused at once.
 */
export function tcpBackends(
  { passthrough, tcpServices }: Pick<TcpSettings, "passthrough" | "tcpServices">,
  allows: AddressPolicy,
): readonly TcpBackend[] {
  const hosts = new Map<string, readonly TcpServer[]>();
  if (passthrough !== undefined) {
    const { otherwise } = passthrough;
    for (const target of passthrough.hosts.values())
      if (target !== undefined)
        hosts.set(backendName(target.backend), serversOf(target.endpoints, "", allows));
    hosts.set(OTHERWISE, otherwise === undefined ? [] : serversOf([otherwise], "", () => true));
  }
  const services = tcpServices
    .map(({ port, endpoints, sendsProxy }) => {
      const proxy = sendsProxy === undefined ? "" : sendsProxy === "v1" ? " send-proxy" : " send-proxy-v2";
      return { name: serviceName(port), servers: serversOf(endpoints, proxy, allows) };
    })
    .filter(({ servers }) => servers.length > 0);
  return [...[...hosts].map(([name, servers]) => ({ name, servers })), ...services];
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

function renderPassthrough({ listen, acceptsProxy }: PassthroughSettings): string {
  return section("frontend passthrough", [
    `bind ${listen}${acceptsProxy ? " accept-proxy" : ""}`,
    "# The first message of TLS may come in pieces; it is read, never answered.",
    "tcp-request inspect-delay 30s",
    "tcp-request content accept if { req.ssl_hello_type 1 }",
    "tcp-request content reject",
    "use_backend %[req.ssl_sni,lower,map_str(passthrough.map)] if { req.ssl_sni,lower,map_str(passthrough.map) -m found }",
    "# A wildcard stands for one label.",
    "use_backend %[req.ssl_sni,lower,regsub(^[^.]*,),map_str(passthrough.map)] if { req.ssl_sni,lower,regsub(^[^.]*,),map_str(passthrough.map) -m found }",
    `default_backend ${OTHERWISE}`,
  ]);
}

function renderTcpService(
  { port, name, acceptsProxy }: TcpServiceSettings,
  address: string | undefined,
): string {
  return section(`frontend ${serviceName(port)}`, [
    `# ${name}`,
    `bind ${address ?? ""}:${port}${acceptsProxy ? " accept-proxy" : ""}`,
    `default_backend ${serviceName(port)}`,
  ]);
}

function renderTcpBackend({ name, servers }: TcpBackend): string {
  return section(
    `backend ${name}`,
    servers.map((server) => `server ${server.name} ${server.parameters}`),
  );
}

/** Names are left out: nothing would check the address that they resolve to later. */
function serversOf(endpoints: readonly string[], more: string, allows: AddressPolicy): readonly TcpServer[] {
  return endpoints
    .filter((endpoint) => {
      const place = parseEndpoint(endpoint);
      return place !== undefined && allows(place.address);
    })
    .map((endpoint) => ({ name: endpoint.replaceAll(/[[\]]/g, ""), parameters: `${endpoint}${more}` }));
}

/** `tls:shop:vault:443`; a slash is no character of such names. */
function backendName(backend: string): string {
  return `tls:${backend.replace("/", ":")}`;
}

/** Of the frontend and the backend. */
function serviceName(port: number): string {
  return `tcp:${port}`;
}

function section(head: string, body: readonly string[]): string {
  return [head, ...body.map((line) => `    ${line}`)].join("\n");
}
