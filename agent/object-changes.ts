/**
 * What differs between one state of the cluster and the next, object by object.
 *
 * In: models. Out: what was put and what is gone, as far as a node needs it. Objects are compared by identity: the readers
 * of `cluster/` keep an object that means the same, so one change among 50 000 Services is found in milliseconds.
 */

import type { ClusterModel, ConfigMap, EndpointSlice, Node, ObjectName, Service } from "../cluster/model.ts";

export interface ObjectChanges {
  readonly services: readonly Service[];
  readonly deletedServices: readonly ObjectName[];
  /** Each name once, also where slices were made from Endpoints or Pods. */
  readonly endpointSlices: readonly EndpointSlice[];
  readonly deletedEndpointSlices: readonly ObjectName[];
  /** Services of which anything has changed, their EndpointSlices included; also those that are gone. */
  readonly touched: ReadonlySet<ObjectName>;
  /** This node; absent: unchanged, `null`: there is none. */
  readonly node?: Node | null;
  /** Those that were asked for and have changed; `null`: there is none. */
  readonly configMaps: ReadonlyMap<ObjectName, ConfigMap | null>;
}

export function isEmptyChange(changes: ObjectChanges): boolean {
  return (
    changes.services.length === 0 &&
    changes.deletedServices.length === 0 &&
    changes.endpointSlices.length === 0 &&
    changes.deletedEndpointSlices.length === 0 &&
    changes.node === undefined &&
    changes.configMaps.size === 0
  );
}

/** Remembers the objects of the last model. */
export class ModelDifference {
  readonly #nodeName: string;
  readonly #configMapNames: readonly ObjectName[];
  readonly #services = new Map<ObjectName, Service>();
  /** Told names by the Service, so that an unchanged list of slices costs one comparison. */
  readonly #byService = new Map<
    ObjectName,
    { list: readonly EndpointSlice[]; names: readonly ObjectName[] }
  >();
  #node: Node | null | undefined;
  readonly #configMaps = new Map<ObjectName, ConfigMap | null>();

  constructor(nodeName: string, configMapNames: readonly ObjectName[]) {
    this.#nodeName = nodeName;
    this.#configMapNames = configMapNames;
  }

  /** The changes from the model before; of the first one everything. */
  take(model: ClusterModel): ObjectChanges {
    const services: Service[] = [];
    const touched = new Set<ObjectName>();
    for (const [name, service] of model.services) {
      if (this.#services.get(name) === service) continue;
      this.#services.set(name, service);
      services.push(service);
      touched.add(name);
    }
    const deletedServices: ObjectName[] = [];
    if (this.#services.size > model.services.size)
      for (const name of this.#services.keys()) if (!model.services.has(name)) deletedServices.push(name);
    for (const name of deletedServices) {
      this.#services.delete(name);
      touched.add(name);
    }
    return {
      services,
      deletedServices,
      ...this.#takeSlices(model, touched),
      touched,
      ...this.#takeNode(model),
      configMaps: this.#takeConfigMaps(model),
    };
  }

  #takeSlices(
    { endpointSlices }: ClusterModel,
    touched: Set<ObjectName>,
  ): Pick<ObjectChanges, "endpointSlices" | "deletedEndpointSlices"> {
    const changed: EndpointSlice[] = [];
    const dropped: ObjectName[] = [];
    for (const [service, list] of endpointSlices) {
      const before = this.#byService.get(service);
      if (before !== undefined && sameItems(before.list, list)) continue;
      touched.add(service);
      const names: ObjectName[] = [];
      for (const [index, slice] of list.entries()) {
        const told = nameToTell(service, slice, index);
        const name: ObjectName = `${told.meta.namespace}/${told.meta.name}`;
        names.push(name);
        if (before?.list[before.names.indexOf(name)] === slice) continue;
        changed.push(told);
      }
      for (const name of before?.names ?? []) if (!names.includes(name)) dropped.push(name);
      this.#byService.set(service, { list, names });
    }
    if (this.#byService.size > endpointSlices.size) {
      for (const [service, { names }] of this.#byService) {
        if (endpointSlices.has(service)) continue;
        dropped.push(...names);
        touched.add(service);
        this.#byService.delete(service);
      }
    }
    // A slice that has moved to another Service was put there, and is not gone.
    const put = new Set(changed.map(({ meta }) => `${meta.namespace}/${meta.name}`));
    return {
      endpointSlices: changed,
      deletedEndpointSlices: dropped.filter((name) => !put.has(name)),
    };
  }

  #takeNode({ nodes }: ClusterModel): Pick<ObjectChanges, "node"> {
    const node = nodes.get(this.#nodeName) ?? null;
    if (node === this.#node) return {};
    this.#node = node;
    return { node };
  }

  #takeConfigMaps({ configMaps }: ClusterModel): ReadonlyMap<ObjectName, ConfigMap | null> {
    const changed = new Map<ObjectName, ConfigMap | null>();
    for (const name of this.#configMapNames) {
      const configMap = configMaps.get(name) ?? null;
      if (this.#configMaps.get(name) === configMap) continue;
      this.#configMaps.set(name, configMap);
      changed.set(name, configMap);
    }
    return changed;
  }
}

/** Slices that no API has named get names that none of the API's can have. */
function nameToTell(service: ObjectName, slice: EndpointSlice, index: number): EndpointSlice {
  if (slice.source === "EndpointSlice") return slice;
  const name = `${service.slice(service.indexOf("/") + 1)}:${slice.source}:${index}`;
  return { ...slice, meta: { ...slice.meta, name } };
}

function sameItems<T>(left: readonly T[], right: readonly T[]): boolean {
  return (
    left === right || (left.length === right.length && left.every((item, index) => item === right[index]))
  );
}
