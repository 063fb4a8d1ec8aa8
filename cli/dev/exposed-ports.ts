/**
 * The ports of `fairlead dev --tcp-services NS/NAME --udp-services NS/NAME`: each leads to the endpoints of its Service,
 * with the PROXY protocol where the entry asks for it.
 *
 * In: the cluster model, again after every change. Out: listening sockets on loopback, and diagnostics; a port that
 * another program has costs itself only and is tried again with the next change. In a cluster these ports are the node
 * agent's, and the gateway's where they speak the PROXY protocol.
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import { type ExposedService, findExposedServices } from "../../cluster/exposed-services.ts";
import type { ClusterModel, ObjectName } from "../../cluster/model.ts";
import type { ProxyVersion } from "../../gateway/proxy-protocol.ts";
import type { RelaySettings } from "../../gateway/relay.ts";
import { listenForTcpService, type ServicePortListener, type TcpService } from "../../gateway/tcp-service.ts";
import { listenForUdpService } from "../../gateway/udp-service.ts";

export interface ExposedPortOptions {
  readonly tcpServices?: ObjectName;
  readonly udpServices?: ObjectName;
  /** Of the PROXY headers that pods get. */
  readonly proxyProtocol: ProxyVersion;
}

export interface ExposedPortPlace {
  readonly host: string;
  /** TCP ports that this program needs itself. */
  readonly ownPorts: readonly number[];
}

export class ExposedPorts {
  readonly #place: ExposedPortPlace;
  readonly #options: ExposedPortOptions;
  readonly #relay: RelaySettings;
  readonly #note: (line: string) => void;
  /** By protocol and port. */
  readonly #listeners = new Map<string, ServicePortListener<TcpService>>();

  constructor(
    place: ExposedPortPlace,
    options: ExposedPortOptions,
    relay: RelaySettings,
    note: (line: string) => void,
  ) {
    this.#place = place;
    this.#options = options;
    this.#relay = relay;
    this.#note = note;
  }

  /** Calls must not overlap. */
  async update(model: ClusterModel): Promise<readonly Diagnostic[]> {
    const diagnostics: Diagnostic[] = [];
    const wanted = new Set<string>();
    for (const [protocol, name] of [
      ["TCP", this.#options.tcpServices],
      ["UDP", this.#options.udpServices],
    ] as const) {
      if (name === undefined) continue;
      const found = findExposedServices(model, name, protocol);
      diagnostics.push(...found.diagnostics);
      for (const { exposed, endpoints } of found.services) {
        const id = `${protocol} ${exposed.nodePort}`;
        wanted.add(id);
        const problem = await this.#serve(id, exposed, endpoints);
        if (problem === undefined) continue;
        diagnostics.push({
          severity: "error",
          kind: "ConfigMap",
          object: name,
          field: `data[${exposed.nodePort}]`,
          message: `${protocol} port ${exposed.nodePort} of ${this.#place.host} cannot be had (${problem}); the entry is not served.`,
        });
      }
    }
    for (const [id, listener] of this.#listeners) {
      if (wanted.has(id)) continue;
      this.#listeners.delete(id);
      await listener.close();
    }
    return diagnostics;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#listeners.values()].map((listener) => listener.close()));
    this.#listeners.clear();
  }

  /** What stands in the way, or undefined. */
  async #serve(
    id: string,
    { protocol, nodePort, service, port, proxyProtocol }: ExposedService,
    endpoints: readonly string[],
  ): Promise<string | undefined> {
    const target: TcpService = {
      endpoints,
      acceptsProxy: proxyProtocol?.decode === true,
      ...(proxyProtocol?.encode === true ? { sendsProxy: this.#options.proxyProtocol } : {}),
    };
    const known = this.#listeners.get(id);
    if (known !== undefined) {
      known.update(target);
      return undefined;
    }
    if (protocol === "TCP" && this.#place.ownPorts.includes(nodePort)) return "fairlead dev has it itself";
    try {
      const listen = protocol === "UDP" ? listenForUdpService : listenForTcpService;
      this.#listeners.set(id, await listen(this.#place.host, nodePort, target, this.#relay));
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? String(error);
    }
    this.#note(`${protocol.toLowerCase()} ${this.#place.host}:${nodePort} leads to ${service}:${port}`);
    return undefined;
  }
}
