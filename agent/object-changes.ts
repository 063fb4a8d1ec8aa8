/**
 * What differs between one state of the cluster and the next, object by object.
 *
 * In: models. Out: what was put and what is gone, as far as a node needs it. Objects are compared by identity: the readers
 * of `cluster/` keep an object that means the same, so one change among 50 000 Services is found in milliseconds.
 */

import type { ClusterModel, ConfigMap, EndpointSlice, Node, ObjectName, Service } from "../cluster/model.ts";
import { changedKeys } from "../cluster/sorted-map.ts";

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

/** Remembers the last model. */
export class ModelDifference {
  readonly #nodeName: string;
  readonly #configMapNames: readonly ObjectName[];
  #before: Pick<ClusterModel, "services" | "endpointSlices"> = {
    services: new Map(),
    endpointSlices: new Map(),
  };
  #node: Node | null | undefined;
  readonly #configMaps = new Map<ObjectName, ConfigMap | null>();

  constructor(nodeName: string, configMapNames: readonly ObjectName[]) {
    this.#nodeName = nodeName;
    this.#configMapNames = configMapNames;
  }

  /** The changes from the model before; of the first one everything. */
  take(model: ClusterModel): ObjectChanges {
    const before = this.#before;
    this.#before = { services: model.services, endpointSlices: model.endpointSlices };
    const services: Service[] = [];
    const deletedServices: ObjectName[] = [];
    const touched = new Set<ObjectName>();
    for (const name of changedKeys(before.services, model.services)) {
      const service = model.services.get(name);
      if (service === undefined) deletedServices.push(name);
      else services.push(service);
      touched.add(name);
    }
    return {
      services,
      deletedServices,
      ...takeSlices(before.endpointSlices, model.endpointSlices, touched),
      touched,
      ...this.#takeNode(model),
      configMaps: this.#takeConfigMaps(model),
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

function takeSlices(
  before: ClusterModel["endpointSlices"],
  now: ClusterModel["endpointSlices"],
  touched: Set<ObjectName>,
): Pick<ObjectChanges, "endpointSlices" | "deletedEndpointSlices"> {
  const changed: EndpointSlice[] = [];
  const put = new Set<ObjectName>();
  const dropped: ObjectName[] = [];
  for (const service of changedKeys(before, now)) {
    const old = new Map<ObjectName, EndpointSlice>();
    for (const [index, slice] of (before.get(service) ?? NONE).entries())
      old.set(nameOf(service, slice, index), slice);
    let isTouched = !now.has(service);
    for (const [index, slice] of (now.get(service) ?? []).entries()) {
      const name = nameOf(service, slice, index);
      const isSame = old.get(name) === slice;
      old.delete(name);
      if (isSame) continue;
      isTouched = true;
      put.add(name);
      changed.push(named(slice, name));
    }
    dropped.push(...old.keys());
    if (isTouched || old.size > 0) touched.add(service);
  }
  // A slice that has moved to another Service was put there, and is not gone.
  return { endpointSlices: changed, deletedEndpointSlices: dropped.filter((name) => !put.has(name)) };
}

const NONE: readonly EndpointSlice[] = [];

/** Slices that no API has named get names that none of the API's can have. */
function nameOf(service: ObjectName, { source, meta }: EndpointSlice, index: number): ObjectName {
  const name =
    source === "EndpointSlice" ? meta.name : `${service.slice(service.indexOf("/") + 1)}:${source}:${index}`;
  return `${meta.namespace}/${name}`;
}

function named(slice: EndpointSlice, name: ObjectName): EndpointSlice {
  if (slice.source === "EndpointSlice") return slice;
  return { ...slice, meta: { ...slice.meta, name: name.slice(name.indexOf("/") + 1) } };
}
