/**
 * A TCP connection passed on to a pod, byte by byte: what TLS passthrough and TCP services have in common.
 *
 * In: a client's socket, what was read from it already, and the endpoints that may take it. Out: nothing; the two
 * sockets end with each other. An endpoint that refuses costs nothing, since nothing was sent to it: the next one is
 * tried, as nginx's `proxy_next_upstream` and HAProxy's `option redispatch` do for TCP.
 */

import { lookup } from "node:dns/promises";
import { connect, isIP, type Socket } from "node:net";
import { parseEndpoint } from "../edge-config/gateway-token.ts";
import { type ConnectionEnds, type ProxyVersion, writeProxyHeader } from "./proxy-protocol.ts";

export interface RelaySettings {
  readonly connectTimeoutMs: number;
  /** After so long without a byte either way the connection ends (nginx: `proxy_timeout`). */
  readonly idleTimeoutMs: number;
  /** Which addresses may be dialled. */
  readonly allows: (address: string) => boolean;
}

/** nginx's `proxy_timeout` of ingress-nginx's stream servers. */
export const IDLE_TIMEOUT_MS = 600_000;
/** Its `proxy_next_upstream_tries`. */
const MAX_TRIES = 3;

export interface Destination {
  /** `address:port`, in the order in which they are tried. */
  readonly endpoints: readonly string[];
  /** Tell the pod who its client is. */
  readonly sendsProxy?: ProxyVersion;
}

/** The endpoints from the next one in turn on. */
export function inTurn(endpoints: readonly string[], turn: number): readonly string[] {
  const first = endpoints.length === 0 ? 0 : turn % endpoints.length;
  return [...endpoints.slice(first), ...endpoints.slice(0, first)];
}

/** `ends`: between whom the connection is, as far as the pod shall know. `head`: bytes of the client that were read. */
export async function relay(
  client: Socket,
  head: Buffer,
  ends: ConnectionEnds,
  { endpoints, sendsProxy }: Destination,
  settings: RelaySettings,
): Promise<void> {
  client.on("error", () => {}); // `close` follows.
  for (const endpoint of endpoints.slice(0, MAX_TRIES)) {
    const pod = await dial(endpoint, settings);
    if (pod === undefined) continue;
    if (client.destroyed) {
      pod.destroy();
      return;
    }
    if (sendsProxy !== undefined) pod.write(writeProxyHeader(sendsProxy, ends));
    if (head.length > 0) pod.write(head);
    join(client, pod, settings.idleTimeoutMs);
    return;
  }
  // What a client of a port without a listener sees.
  client.resetAndDestroy();
}

/** Undefined where the endpoint cannot be had, for whatever reason. */
async function dial(endpoint: string, settings: RelaySettings): Promise<Socket | undefined> {
  const place = parseEndpoint(endpoint);
  if (place === undefined) return undefined;
  const address = await addressOf(place.address, settings.allows);
  if (address === undefined) return undefined;
  return await new Promise((resolve) => {
    const pod = connect({ host: address, port: place.port, noDelay: true, allowHalfOpen: true });
    const timer = setTimeout(() => pod.destroy(), settings.connectTimeoutMs);
    pod.once("connect", () => resolve(pod));
    pod.once("close", () => resolve(undefined));
    pod.once("error", () => {});
    pod.once("connect", () => clearTimeout(timer));
    pod.once("close", () => clearTimeout(timer));
  });
}

async function addressOf(host: string, allows: (address: string) => boolean): Promise<string | undefined> {
  if (isIP(host) !== 0) return allows(host) ? host : undefined;
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address).find(allows);
  } catch {
    return undefined;
  }
}

/** Both ways, with back-pressure; each side may end its sending alone, and a reset on one is a reset on the other. */
function join(client: Socket, pod: Socket, idleTimeoutMs: number): void {
  let seen = -1;
  for (const [from, to] of [
    [client, pod],
    [pod, client],
  ] as const) {
    from.pipe(to);
    from.on("error", () => {});
    from.once("close", () => {
      if (from.readableEnded && from.writableFinished) to.end();
      else to.resetAndDestroy();
    });
    from.setTimeout(idleTimeoutMs, () => {
      // Silence one way is none as long as the other way talks.
      if (client.bytesRead + pod.bytesRead === seen) {
        client.destroy();
        pod.destroy();
      }
      seen = client.bytesRead + pod.bytesRead;
    });
  }
}
