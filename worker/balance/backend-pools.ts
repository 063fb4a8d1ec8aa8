/**
 * The pools of this isolate, by backend name. A pool lives as long as a host table refers to it: what is not
 * in use is left to the garbage collector, so the register never outgrows the tables in memory.
 */

import type { Backend, BackendName } from "../../edge-config/config.ts";
import { BackendPool } from "./backend-pool.ts";

/** The register is swept of collected pools each time it has grown by this much. */
const SWEEP_EVERY = 1024;

export class BackendPools {
  readonly #pools = new Map<BackendName, WeakRef<BackendPool>>();
  #sweepAt = SWEEP_EVERY;

  /** The pool of a backend, brought up to the given description. */
  pool(name: BackendName, backend: Backend): BackendPool {
    const known = this.#pools.get(name)?.deref();
    if (known !== undefined) {
      known.update(backend);
      return known;
    }
    const pool = new BackendPool(name, backend);
    this.#pools.set(name, new WeakRef(pool));
    if (this.#pools.size >= this.#sweepAt) this.#sweep();
    return pool;
  }

  #sweep(): void {
    for (const [name, reference] of this.#pools)
      if (reference.deref() === undefined) this.#pools.delete(name);
    this.#sweepAt = this.#pools.size + SWEEP_EVERY;
  }
}
