/**
 * What a node does for a Service beside its rules: stale UDP flows, health checks of load balancers, and how old a change
 * was when it came.
 *
 * In: states of the cluster with what has changed in them. Out: UDP ports for the sweeper, ports of health checks, times.
 * Only Services that were touched are looked at.
 */

import type { ExposedService } from "../cluster/exposed-services.ts";
import type { ClusterModel, IpFamily, ObjectName } from "../cluster/model.ts";
import { type UdpPort, udpPortsOf } from "./conntrack.ts";
import type { ObjectChanges } from "./object-changes.ts";
import { type ServiceHealthPort, serviceHealthPort } from "./service-health.ts";

/** Written by the EndpointSlice controller: when the Pod or Service changed that made it change the slice. */
export const TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time";

/** Of a change to the endpoints of one family. */
export interface Trigger {
  readonly family: IpFamily;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

export interface ServiceFollowerOptions {
  readonly node: string;
  readonly updateUdp: (service: ObjectName, ports: readonly UdpPort[]) => void;
}

export class ServiceFollower {
  readonly #options: ServiceFollowerOptions;
  readonly #healthPorts = new Map<ObjectName, ServiceHealthPort>();
  #exposed: readonly ExposedService[] = [];
  #triggers: Trigger[] = [];

  constructor(options: ServiceFollowerOptions) {
    this.#options = options;
  }

  take(model: ClusterModel, changes: ObjectChanges, exposed: readonly ExposedService[]): void {
    const touched = new Set(changes.touched);
    // A port that is exposed no longer touches its Service as well as one that is now.
    if (exposed !== this.#exposed)
      for (const { service } of [...this.#exposed, ...exposed]) touched.add(service);
    this.#exposed = exposed;
    for (const name of touched) this.#look(name, model);
    for (const { meta, addressType: family } of changes.endpointSlices) {
      const atMs = Date.parse(meta.annotations[TRIGGER_TIME] ?? "");
      if (Number.isFinite(atMs) && family !== "FQDN") this.#triggers.push({ family, atMs });
    }
  }

  healthPorts(): readonly ServiceHealthPort[] {
    return [...this.#healthPorts.values()];
  }

  /** When what has come of these families since the last call was set off. */
  takeTriggerTimes(families: readonly IpFamily[]): readonly Trigger[] {
    const taken = this.#triggers.filter(({ family }) => families.includes(family));
    this.#triggers = this.#triggers.filter(({ family }) => !families.includes(family));
    return taken;
  }

  #look(name: ObjectName, { services, endpointSlices }: ClusterModel): void {
    const service = services.get(name);
    const slices = endpointSlices.get(name) ?? [];
    const exposed = this.#exposed.filter((one) => one.service === name && one.protocol === "UDP");
    this.#options.updateUdp(name, service === undefined ? [] : udpPortsOf(service, slices, exposed));
    const health = service && serviceHealthPort(service, slices, this.#options.node);
    if (health === undefined) this.#healthPorts.delete(name);
    else this.#healthPorts.set(name, health);
  }
}
