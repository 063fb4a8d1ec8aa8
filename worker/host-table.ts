/**
 * A host as the Worker serves it: its route table, each route with its backend and its filters.
 *
 * In: a host record and the pools of backends, which outlive it. Out: the table. Filters are built at the
 * first request of a route, so that a cold isolate pays for one route and not for a thousand.
 */

import type { BackendName, HostConfig, Route } from "../edge-config/config.ts";
import type { HostRecord } from "../edge-config/host-record.ts";
import type { BackendPool } from "./balance/backend-pool.ts";
import type { BackendPools } from "./balance/backend-pools.ts";
import type { Match } from "./match.ts";
import { buildHostPipeline, buildRoutePipeline, type HostPipeline, type RoutePipeline } from "./pipeline.ts";
import { buildRouteTable, type RouteTable } from "./table.ts";

export class HostTable {
  /** As the configuration has it: `shop.example.com`, `*.example.com` or `*`. */
  readonly name: string;
  readonly config: HostConfig;
  /** Every backend that a route or a policy of this host names. */
  readonly backends: ReadonlyMap<BackendName, BackendPool>;
  readonly #table: RouteTable<RouteEntry>;
  #pipeline: HostPipeline | undefined;
  #isPipelineBuilt = false;

  constructor(name: string, { config, backends }: HostRecord, pools: BackendPools) {
    this.name = name;
    this.config = config;
    // At once, not at first use: an old table still in use must not bring back old endpoints.
    this.backends = new Map([...backends].map(([backend, found]) => [backend, pools.pool(backend, found)]));
    this.#table = buildRouteTable(config, (route) => new RouteEntry(this, route));
  }

  /** What a normalised path meets. */
  find(path: string): Match<RouteEntry> | undefined {
    return this.#table.find(path);
  }

  /** `undefined` for a host without policies of its own. */
  get pipeline(): HostPipeline | undefined {
    if (!this.#isPipelineBuilt) {
      this.#pipeline = buildHostPipeline(this);
      this.#isPipelineBuilt = true;
    }
    return this.#pipeline;
  }
}

export class RouteEntry {
  readonly route: Route;
  readonly #host: HostTable;
  #backend: BackendPool | undefined;
  #pipeline: RoutePipeline | undefined;
  #isBuilt = false;

  constructor(host: HostTable, route: Route) {
    this.#host = host;
    this.route = route;
  }

  /** `undefined`: the default of a host without a default backend. */
  get backend(): BackendPool | undefined {
    if (!this.#isBuilt) this.#build();
    return this.#backend;
  }

  /** `undefined` for a route without policies. */
  get pipeline(): RoutePipeline | undefined {
    if (!this.#isBuilt) this.#build();
    return this.#pipeline;
  }

  #build(): void {
    this.#isBuilt = true;
    const { backend } = this.route;
    this.#backend = backend === undefined ? undefined : this.#host.backends.get(backend);
    this.#pipeline = buildRoutePipeline(this.#host, this);
  }
}
