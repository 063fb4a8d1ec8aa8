/**
 * Hosts whose TLS ends at their pods (`ssl-passthrough`), by the server name that a client asks for.
 *
 * In: an edge configuration. Out: which names are passed through, and to which endpoints. Names are found as hosts are:
 * exact before wildcard, which stands for one label. Not here: connections (`relay.ts`, `haproxy/passthrough.ts`).
 */

import type { BackendName, EdgeConfig } from "../edge-config/config.ts";

export interface PassthroughTarget {
  readonly backend: BackendName;
  /** `address:port`; empty where none is ready, and connections are refused. */
  readonly endpoints: readonly string[];
}

/**
 * By host, in the order of the alphabet. Undefined is an exact host under a wildcard that is passed through, whose own TLS
 * is not.
 */
export type PassthroughHosts = ReadonlyMap<string, PassthroughTarget | undefined>;

export function passthroughHosts({
  hosts,
  backends,
}: Pick<EdgeConfig, "hosts" | "backends">): PassthroughHosts {
  const found = new Map<string, PassthroughTarget | undefined>();
  for (const host of Object.keys(hosts).sort()) {
    const backend = hosts[host]?.sslPassthrough?.backend;
    if (backend !== undefined) found.set(host, { backend, endpoints: backends[backend]?.endpoints ?? [] });
    else if (hosts[wildcardOf(host)]?.sslPassthrough !== undefined) found.set(host, undefined);
  }
  return found;
}

/** Undefined: this name's TLS is not passed through. */
export function findPassthrough(hosts: PassthroughHosts, serverName: string): PassthroughTarget | undefined {
  return hosts.get(hosts.has(serverName) ? serverName : wildcardOf(serverName));
}

/** `*.example.com` for `shop.example.com`. */
function wildcardOf(name: string): string {
  const dot = name.indexOf(".");
  return dot === -1 ? "" : `*${name.slice(dot)}`;
}
