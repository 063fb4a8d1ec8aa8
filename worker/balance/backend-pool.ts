/**
 * A backend as this isolate knows it: its endpoints and who chooses among them. One for each backend name,
 * shared by all routes and hosts that name it, and kept when their configuration changes, so that turns and
 * what was learnt about an endpoint survive.
 */

import type { Backend, BackendName } from "../../edge-config/config.ts";
import type { Balancer, Endpoint } from "./balancer.ts";
import { createBalancer } from "./create-balancer.ts";

export class BackendPool {
  readonly name: BackendName;
  #backend: Backend;
  #endpoints: readonly Endpoint[] = [];
  #balancer: Balancer;

  constructor(name: BackendName, backend: Backend) {
    this.name = name;
    this.#backend = backend;
    this.#endpoints = backend.endpoints.map((address) => ({ address }));
    this.#balancer = createBalancer(backend, this.#endpoints);
  }

  get backend(): Backend {
    return this.#backend;
  }

  get endpoints(): readonly Endpoint[] {
    return this.#endpoints;
  }

  get balancer(): Balancer {
    return this.#balancer;
  }

  /** Takes over a newer description; endpoints that stay keep their objects. */
  update(backend: Backend): void {
    if (backend === this.#backend) return;
    const isSame = sameText(backend, this.#backend);
    this.#backend = backend;
    if (isSame) return;
    const known = new Map(this.#endpoints.map((endpoint) => [endpoint.address, endpoint]));
    this.#endpoints = backend.endpoints.map((address) => known.get(address) ?? { address });
    this.#balancer = createBalancer(backend, this.#endpoints);
  }
}

function sameText(left: Backend, right: Backend): boolean {
  return JSON.stringify(left) === JSON.stringify(right);
}
