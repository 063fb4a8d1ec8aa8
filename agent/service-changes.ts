/**
 * What differs between one state of the cluster and the next, Service by Service.
 *
 * In: models. Out: the Services whose own object or whose EndpointSlices are others than before. Objects are compared by
 * identity: the readers of `cluster/` keep an object that means the same, so a change of one Service among 50 000
 * is found in a few milliseconds and nothing else is looked into.
 */

import type { ClusterModel, EndpointSlice, ObjectName, Service } from "../cluster/model.ts";

export interface ServiceChange {
  readonly name: ObjectName;
  /** Absent: there is no such Service, whatever slices there may be. */
  readonly service: Service | undefined;
  /** Empty where the Service is absent. */
  readonly slices: readonly EndpointSlice[];
}

interface Known {
  readonly service: Service;
  readonly slices: readonly EndpointSlice[];
}

const NO_SLICES: readonly EndpointSlice[] = [];

export class ServiceChanges {
  #known = new Map<ObjectName, Known>();

  /** The changes from the model before; of the first one every Service. In order of the names; those that are gone last. */
  take({ services, endpointSlices }: ClusterModel): readonly ServiceChange[] {
    const changes: ServiceChange[] = [];
    for (const [name, service] of services) {
      const slices = endpointSlices.get(name) ?? NO_SLICES;
      const known = this.#known.get(name);
      if (known?.service === service && sameObjects(known.slices, slices)) continue;
      this.#known.set(name, { service, slices });
      changes.push({ name, service, slices });
    }
    if (this.#known.size === services.size) return changes;
    for (const name of this.#known.keys()) {
      if (services.has(name)) continue;
      this.#known.delete(name);
      changes.push({ name, service: undefined, slices: NO_SLICES });
    }
    return changes;
  }

  /** A Service as it was taken last. */
  get(name: ObjectName): Known | undefined {
    return this.#known.get(name);
  }
}

function sameObjects<T>(left: readonly T[], right: readonly T[]): boolean {
  return (
    left === right || (left.length === right.length && left.every((item, index) => item === right[index]))
  );
}
