/**
 * One TCP port that leads to the endpoints of a Service: what `fairlead dev` does for an entry of the `tcp-services`
 * ConfigMap. In clusters the node agent's rules or HAProxy do it.
 *
 * A connection goes to the next endpoint in turn. With `acceptsProxy` its first bytes must be a PROXY header, and one
 * without it is reset, as nginx and HAProxy do.
 */

import { createServer, type Socket } from "node:net";
import { type ConnectionEnds, type ProxyVersion, readProxyHeader } from "./proxy-protocol.ts";
import { inTurn, type RelaySettings, relay } from "./relay.ts";

export interface TcpService {
  /** `address:port` of every endpoint that may serve. */
  readonly endpoints: readonly string[];
  /** Connections begin with a PROXY header, of either version. */
  readonly acceptsProxy: boolean;
  /** Absent: pods get no header. */
  readonly sendsProxy?: ProxyVersion;
}

export interface ServicePortListener<S> {
  /** Holds for connections from now on; those under way stay where they are. */
  readonly update: (service: S) => void;
  /** Ends all connections. */
  readonly close: () => Promise<void>;
}

/** Time for the PROXY header (HAProxy's `timeout client` of the first bytes, nginx's `proxy_protocol_timeout`). */
const HEADER_TIMEOUT_MS = 30_000;

/** Rejects with the system's error where the port cannot be had. */
export async function listenForTcpService(
  host: string,
  port: number,
  initial: TcpService,
  settings: RelaySettings,
): Promise<ServicePortListener<TcpService>> {
  let service = initial;
  let turn = 0;
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    sockets.add(client);
    client.once("close", () => sockets.delete(client));
    const pass = (head: Buffer, ends: ConnectionEnds): void => {
      const { endpoints, sendsProxy } = service;
      const destination = {
        endpoints: inTurn(endpoints, turn++),
        ...(sendsProxy === undefined ? {} : { sendsProxy }),
      };
      void relay(client, head, ends, destination, settings);
    };
    if (service.acceptsProxy) readHeader(client, pass);
    else pass(Buffer.alloc(0), endsOf(client));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, resolve);
  });
  return {
    update: (next) => {
      service = next;
    },
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function readHeader(client: Socket, pass: (head: Buffer, ends: ConnectionEnds) => void): void {
  let bytes = Buffer.alloc(0);
  const giveUp = (): void => {
    client.resetAndDestroy();
  };
  const timer = setTimeout(giveUp, HEADER_TIMEOUT_MS);
  const read = (chunk: Buffer): void => {
    bytes = Buffer.concat([bytes, chunk]);
    const header = readProxyHeader(bytes);
    if (header.kind === "incomplete") return;
    client.pause();
    client.off("data", read);
    clearTimeout(timer);
    if (header.kind === "malformed") giveUp();
    else pass(bytes.subarray(header.length), header.ends ?? endsOf(client));
  };
  client.on("data", read);
  client.on("error", () => {});
  client.once("end", () => {
    if (client.listeners("data").includes(read)) giveUp();
  });
  client.once("close", () => clearTimeout(timer));
}

/** Between whom the connection is as far as this machine sees. */
export function endsOf(client: Socket): ConnectionEnds {
  return {
    source: { address: client.remoteAddress ?? "0.0.0.0", port: client.remotePort ?? 0 },
    destination: { address: client.localAddress ?? "0.0.0.0", port: client.localPort ?? 0 },
  };
}
