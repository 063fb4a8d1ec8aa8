/**
 * `healthCheckNodePort`: one small server for each Service of type LoadBalancer with `externalTrafficPolicy: Local`, by
 * which a load balancer learns which nodes have an endpoint of it (KEP-1669).
 *
 * In: the Services with such a port, and how many ready endpoints this node has of each, by family. Out: servers on every node port
 * address, which answer any path with kube-proxy's body, byte for byte. Only ready endpoints count: a node whose last
 * ones terminate is taken out of the load balancer while its connections go on.
 */

import type { EndpointSlice, IpFamily, ObjectName, Service } from "../cluster/model.ts";
import { type HttpAnswer, type HttpServer, JSON_HEADERS, serveHttp } from "./http-server.ts";
import { isProxied } from "./proxied-service.ts";

export interface ServiceHealthPort {
  readonly service: ObjectName;
  readonly port: number;
  readonly localEndpoints: LocalEndpoints;
}

/** A Pod with an address of each family is one endpoint in each: who asks by IPv6 sends his traffic there by IPv6. */
export type LocalEndpoints = Readonly<Record<IpFamily, number>>;

/** `undefined`: the Service has no health check of its own. */
export function serviceHealthPort(
  service: Service,
  slices: readonly EndpointSlice[],
  node: string,
): ServiceHealthPort | undefined {
  const { type, externalTrafficPolicy, healthCheckNodePort, meta } = service;
  if (type !== "LoadBalancer" || externalTrafficPolicy !== "Local") return undefined;
  if (healthCheckNodePort === undefined || !isProxied(service)) return undefined;
  const local = (family: IpFamily): number => {
    const endpoints = slices.flatMap((slice) => (slice.addressType === family ? slice.endpoints : []));
    const ready = endpoints.filter(({ ready, nodeName }) => ready && nodeName === node);
    return new Set(ready.flatMap(({ addresses }) => addresses)).size;
  };
  return {
    service: `${meta.namespace}/${meta.name}`,
    port: healthCheckNodePort,
    localEndpoints: { IPv4: local("IPv4"), IPv6: local("IPv6") },
  };
}

export interface ServiceHealthOptions {
  /** Where node ports are listened to; `0.0.0.0` and `::` for everywhere. Asked with every update. */
  readonly addresses: () => readonly string[];
  readonly isHealthy: () => boolean;
  /** One sentence, and the Service that it is about. What it tells of is tried again with every update, and told once. */
  readonly onFailure?: (service: ObjectName, message: string) => void;
}

interface Open {
  readonly port: number;
  /** By address. */
  readonly servers: Map<string, HttpServer>;
  /** Told, by address that cannot be listened to. */
  readonly failures: Map<string, string>;
  localEndpoints: LocalEndpoints;
}

export class ServiceHealthServers {
  readonly #options: ServiceHealthOptions;
  readonly #open = new Map<ObjectName, Open>();
  #updating: Promise<void> = Promise.resolve();

  constructor(options: ServiceHealthOptions) {
    this.#options = options;
  }

  /** Brings the servers in line with all ports that are wanted and the node's addresses; resolves when they are. */
  update(wanted: readonly ServiceHealthPort[]): Promise<void> {
    this.#updating = this.#updating.then(() => this.#update(wanted));
    return this.#updating;
  }

  close(): Promise<void> {
    return this.update([]);
  }

  async #update(wanted: readonly ServiceHealthPort[]): Promise<void> {
    const byService = new Map(wanted.map((port) => [port.service, port]));
    for (const [service, { port, servers }] of this.#open) {
      if (byService.get(service)?.port === port) continue;
      this.#open.delete(service);
      await Promise.all([...servers.values()].map((server) => server.close()));
    }
    if (wanted.length === 0) return;
    const addresses = new Set(this.#options.addresses());
    for (const { service, port, localEndpoints } of wanted) {
      const open = this.#open.get(service) ?? {
        port,
        servers: new Map(),
        failures: new Map(),
        localEndpoints,
      };
      this.#open.set(service, open);
      open.localEndpoints = localEndpoints;
      await this.#follow(addresses, service, open);
    }
  }

  /** An address that cannot be listened to (one that is still looked for twice, or not on an interface yet) costs itself only. */
  async #follow(addresses: ReadonlySet<string>, service: ObjectName, open: Open): Promise<void> {
    const { servers, failures } = open;
    for (const host of failures.keys()) if (!addresses.has(host)) failures.delete(host);
    for (const [host, server] of servers) {
      if (addresses.has(host)) continue;
      servers.delete(host);
      await server.close();
    }
    for (const host of addresses) if (!servers.has(host)) await this.#listen(host, service, open);
  }

  async #listen(host: string, service: ObjectName, open: Open): Promise<void> {
    const { port, servers, failures } = open;
    const family: IpFamily = host.includes(":") ? "IPv6" : "IPv4";
    try {
      const answer = () => this.#answer(service, open.localEndpoints[family]);
      // Each family has its own count of endpoints, and so its own server.
      servers.set(host, await serveHttp({ host, port, ipv6Only: family === "IPv6" }, answer));
      failures.delete(host);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const message = `healthCheckNodePort ${port} cannot be listened to at ${host}: ${reason}.`;
      if (failures.get(host) === message) return;
      failures.set(host, message);
      this.#options.onFailure?.(service, message);
    }
  }

  #answer(service: ObjectName, localEndpoints: number): HttpAnswer {
    const healthy = this.#options.isHealthy();
    const slash = service.indexOf("/");
    const body = {
      service: { namespace: service.slice(0, slash), name: service.slice(slash + 1) },
      localEndpoints,
      serviceProxyHealthy: healthy,
    };
    return {
      status: localEndpoints > 0 && healthy ? 200 : 503,
      headers: { ...JSON_HEADERS, "X-Load-Balancing-Endpoint-Weight": String(localEndpoints) },
      body: JSON.stringify(body, undefined, "\t"),
    };
  }
}
