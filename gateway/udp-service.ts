/**
 * One UDP port that leads to the endpoints of a Service: what `fairlead dev` does for an entry of the `udp-services`
 * ConfigMap. In clusters the node agent's rules do it.
 *
 * Datagrams of one client go to one endpoint for as long as either talks, as the kernel's connection tracking keeps them
 * together; answers come back from the port that was asked.
 */

import { createSocket, type Socket } from "node:dgram";
import { isIP } from "node:net";
import { parseEndpoint } from "../edge-config/gateway-token.ts";
import type { RelaySettings } from "./relay.ts";
import type { ServicePortListener } from "./tcp-service.ts";

export interface UdpService {
  readonly endpoints: readonly string[];
}

/** `nf_conntrack_udp_timeout_stream`, the kernel's own for flows that were answered. */
const FLOW_TIMEOUT_MS = 120_000;
/** A client that makes up source ports costs the oldest flows, not memory. */
const MAX_FLOWS = 1024;

interface Flow {
  readonly socket: Socket;
  readonly endpoint: string;
  /** Sent before the socket was connected. */
  waiting: Buffer[] | undefined;
  timer: NodeJS.Timeout;
}

/** Rejects with the system's error where the port cannot be had. */
export async function listenForUdpService(
  host: string,
  port: number,
  initial: UdpService,
  { allows }: Pick<RelaySettings, "allows">,
): Promise<ServicePortListener<UdpService>> {
  let service = initial;
  let turn = 0;
  const flows = new Map<string, Flow>();
  const server = createSocket(isIP(host) === 6 ? "udp6" : "udp4");

  const end = (client: string): void => {
    const flow = flows.get(client);
    if (flow === undefined) return;
    flows.delete(client);
    clearTimeout(flow.timer);
    flow.socket.close();
  };
  const begin = (client: string, address: string, clientPort: number): Flow | undefined => {
    const endpoint = service.endpoints[turn++ % Math.max(service.endpoints.length, 1)];
    const place = endpoint === undefined ? undefined : parseEndpoint(endpoint);
    if (endpoint === undefined || place === undefined || !allows(place.address)) return undefined;
    const socket = createSocket(isIP(place.address) === 6 ? "udp6" : "udp4");
    const timer = setTimeout(() => end(client), FLOW_TIMEOUT_MS);
    const flow: Flow = { socket, endpoint, waiting: [], timer };
    socket.on("message", (answer) => {
      timer.refresh();
      server.send(answer, clientPort, address);
    });
    // Refused (ICMP): the endpoint is gone, so the next datagram goes to another one.
    socket.on("error", () => end(client));
    socket.connect(place.port, place.address, () => {
      for (const datagram of flow.waiting ?? []) socket.send(datagram);
      flow.waiting = undefined;
    });
    for (const oldest of flows.keys()) {
      if (flows.size < MAX_FLOWS) break;
      end(oldest);
    }
    flows.set(client, flow);
    return flow;
  };

  server.on("message", (datagram, { address, port: clientPort }) => {
    const client = `${address} ${clientPort}`;
    const flow = flows.get(client) ?? begin(client, address, clientPort);
    if (flow === undefined) return;
    flow.timer.refresh();
    if (flow.waiting === undefined) flow.socket.send(datagram);
    else flow.waiting.push(datagram);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.bind({ address: host, port, exclusive: true }, () => {
      server.off("error", reject);
      // A client that is gone answers with ICMP; the port is for the others too.
      server.on("error", () => {});
      resolve();
    });
  });
  return {
    update: (next) => {
      service = next;
      const still = new Set(next.endpoints);
      for (const [client, { endpoint }] of flows) if (!still.has(endpoint)) end(client);
    },
    close: async () => {
      for (const client of [...flows.keys()]) end(client);
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
