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
  /** Where node ports are listened to; `0.0.0.0` and `::` for everywhere. Asked for every port that is opened. */
  readonly addresses: () => readonly string[];
  readonly isHealthy: () => boolean;
  /** One sentence, and the Service that it is about. It is tried again with the next update. */
  readonly onFailure?: (service: ObjectName, message: string) => void;
}

interface Open {
  readonly port: number;
  servers: readonly HttpServer[];
  localEndpoints: LocalEndpoints;
}

export class ServiceHealthServers {
  readonly #options: ServiceHealthOptions;
  readonly #open = new Map<ObjectName, Open>();
  #updating: Promise<void> = Promise.resolve();

  constructor(options: ServiceHealthOptions) {
    this.#options = options;
  }

  /** Brings the servers in line with all ports that are wanted; resolves when they are. */
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
      await Promise.all(servers.map((server) => server.close()));
    }
    for (const { service, port, localEndpoints } of wanted) {
      const open = this.#open.get(service);
      if (open !== undefined) open.localEndpoints = localEndpoints;
      else await this.#listen(service, port, localEndpoints);
    }
  }

  async #listen(service: ObjectName, port: number, localEndpoints: LocalEndpoints): Promise<void> {
    const open: Open = { port, servers: [], localEndpoints };
    const results = await Promise.allSettled(
      this.#options
        .addresses()
        .map((host) =>
          serveHttp({ host, port }, () =>
            this.#answer(service, open.localEndpoints[host.includes(":") ? "IPv6" : "IPv4"]),
          ),
        ),
    );
    const servers = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    const failure = results.find((result) => result.status === "rejected");
    if (failure === undefined) {
      open.servers = servers;
      this.#open.set(service, open);
      return;
    }
    // Half open would answer some of the load balancer's probes and not others.
    await Promise.all(servers.map((server) => server.close()));
    const reason: unknown = failure.reason;
    this.#options.onFailure?.(
      service,
      `healthCheckNodePort ${port} cannot be listened to: ${reason instanceof Error ? reason.message : String(reason)}.`,
    );
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
