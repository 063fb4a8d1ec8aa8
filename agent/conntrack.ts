/**
 * Which UDP flows are stale, and their removal (kubernetes/kubernetes#139628 tells what happens without).
 *
 * UDP has no end: a client that keeps its source port keeps its entry in the connection table, and with it the endpoint
 * that was chosen when the entry was made, whatever the rules say now. So after the rules have changed, a flow is deleted
 * - whose destination is one of ours (an address and port of a UDP Service, a UDP node port at an address of this node, or
 *   a host port of a Pod), and
 * - that is answered by somebody who is no serving endpoint of it. A flow that was never translated (made while there
 *   was no rule) is answered by its own destination and falls under the same words.
 *
 * Also for Services without any endpoint, and for those deleted since. Traffic policy, hints and termination do not count:
 * what flows goes on, as a TCP connection would. TCP and SCTP are never touched, nor flows to other ports of our addresses.
 *
 * Flows are swept after the rules have been swapped, and once more a little later. Before the swap it would be for
 * nothing: the next packet would make the flow anew, by the old rules. The second sweep takes the flows whose first packet
 * was on its way through the old rules when the first sweep passed.
 */

import type { ExposedService } from "../cluster/exposed-services.ts";
import { hostPort } from "../cluster/ip-address.ts";
import type { EndpointSlice, IpFamily, ObjectName, Service } from "../cluster/model.ts";
import {
  type ConntrackOptions,
  deleteUdpFlows,
  type Flow,
  type FlowGroup,
  listUdpFlows,
} from "./kernel/conntrack.ts";
import { exposes, isProxied, translatedAddresses } from "./proxied-service.ts";

/** What a host port has in place of an address that is every one of the node. */
export const EVERY_ADDRESS: Readonly<Record<IpFamily, string>> = { IPv4: "0.0.0.0", IPv6: "::" };

/** One UDP port of a Service, or host port of a Pod. */
export interface UdpPort {
  /** `10.96.0.10:53`, `[fd00::a]:53`, `0.0.0.0:53`. */
  readonly destinations: readonly string[];
  readonly nodePort?: number | undefined;
  /** `10.180.0.1:5353`; every endpoint that serves, wherever it is. */
  readonly endpoints: ReadonlySet<string>;
}

/** A flow's destination, `address:port`, to the endpoints that may answer it. */
export interface UdpDestinations {
  readonly addresses: ReadonlyMap<string, ReadonlySet<string>>;
  readonly nodePorts: ReadonlyMap<number, ReadonlySet<string>>;
  /** Where node ports are listened to. */
  readonly nodeAddresses: ReadonlySet<string>;
  /** Where host ports without an address are. */
  readonly hostPortAddresses: ReadonlySet<string>;
}

export function isStale(flow: Flow, destinations: UdpDestinations): boolean {
  const endpoints = endpointsFor(flow, destinations);
  return endpoints !== undefined && !endpoints.has(hostPort(flow.replySource, flow.replySourcePort));
}

/** In the order in which rules translate; where the first has nobody, or is gone, the next may answer. */
function endpointsFor(
  { destination, destinationPort: port }: Flow,
  { addresses, nodePorts, nodeAddresses, hostPortAddresses }: UdpDestinations,
): ReadonlySet<string> | undefined {
  const everyAddress = EVERY_ADDRESS[destination.includes(":") ? "IPv6" : "IPv4"];
  const found = [
    addresses.get(hostPort(destination, port)),
    nodeAddresses.has(destination) ? nodePorts.get(port) : undefined,
    hostPortAddresses.has(destination) ? addresses.get(hostPort(everyAddress, port)) : undefined,
  ].filter((endpoints) => endpoints !== undefined);
  return found.find(({ size }) => size > 0) ?? found[0];
}

/** The UDP ports of a Service that this node translates; empty for headless Services and those of other proxies. */
export function udpPortsOf(
  service: Service,
  slices: readonly EndpointSlice[],
  exposed: readonly Pick<ExposedService, "protocol" | "port" | "nodePort">[] = [],
): readonly UdpPort[] {
  if (!isProxied(service)) return [];
  const addresses = translatedAddresses(service);
  return service.ports
    .filter(({ protocol }) => protocol === "UDP")
    .flatMap((port) => {
      const endpoints = servingAddresses(port.name, slices);
      const destinations = addresses.map(({ address }) => hostPort(address, port.port));
      const further = exposed
        .filter((one) => exposes(one, port))
        .map(({ nodePort }) => ({ destinations: [], nodePort, endpoints }));
      return [{ destinations, nodePort: port.nodePort, endpoints }, ...further];
    });
}

function servingAddresses(portName: string, slices: readonly EndpointSlice[]): ReadonlySet<string> {
  const serving = new Set<string>();
  for (const slice of slices) {
    if (slice.addressType === "FQDN") continue;
    for (const { name, protocol, port } of slice.ports) {
      if (name !== portName || protocol !== "UDP" || port === undefined) continue;
      for (const endpoint of slice.endpoints) {
        if (!endpoint.ready && !endpoint.serving) continue;
        for (const address of endpoint.addresses) serving.add(hostPort(address, port));
      }
    }
  }
  return serving;
}

export interface SweepResult {
  readonly deleted: number;
  readonly durationMs: number;
}

export interface UdpSweeperOptions {
  readonly families: readonly IpFamily[];
  /** Asked for every sweep: addresses come and go. */
  readonly nodeAddresses: () => ReadonlySet<string>;
  readonly hostPortAddresses: () => ReadonlySet<string>;
  readonly kernel?: ConntrackOptions | undefined;
  readonly onSweep?: ((family: IpFamily, result: SweepResult) => void) | undefined;
  /** One sentence; the sweep is repeated. */
  readonly onFailure?: ((message: string) => void) | undefined;
  readonly confirmMs?: number;
}

/** In the place of a Service: all host ports of Pods. */
export const HOST_PORTS = "host ports";
/** Rules of Services and those of host ports are written each in their own time. */
type UdpRules = "Services" | typeof HOST_PORTS;
type UdpOwner = ObjectName | typeof HOST_PORTS;

function rulesOf(owner: UdpOwner): UdpRules {
  return owner === HOST_PORTS ? HOST_PORTS : "Services";
}

/** Who was asked right before the change may still answer: the flow is what takes the answer back. */
const SETTLE_MS = 100;
/** A sweep is put off for changes that follow each other, but no longer than this. */
const LONGEST_SETTLE_MS = 1_000;
const CONFIRM_MS = 1_000;
const RETRY_MS = 5_000;
/** Reading the table of a busy node takes seconds; it gets a fifth of the time at most. */
const SWEEP_SHARE = 5;

/**
 * Follows the UDP Services of a cluster and the host ports of a node, and sweeps when a change can have left flows behind.
 * What the cluster says counts from the moment at which the rules say it: an endpoint that is about to go still gets new flows.
 */
export class UdpSweeper {
  readonly #options: UdpSweeperOptions;
  /** By the rules that stand. */
  readonly #ports = new Map<UdpOwner, readonly UdpPort[]>();
  /** By those that are being written; they may stand already. */
  readonly #writing = new Map<UdpOwner, readonly UdpPort[]>();
  /** Of later ones. */
  readonly #told = new Map<UdpOwner, readonly UdpPort[]>();
  /** Destinations that were ours and are no longer, with the number of the loss. Until a sweep and its confirmation have passed. */
  readonly #gone = new Map<string | number, number>();
  #losses = 0;
  /** Rules that leave flows behind when they are written. */
  readonly #leavesFlows = new Set<UdpRules>();
  /** Since when a sweep is needed, and when it is to begin. */
  #due: { readonly sinceMs: number; readonly atMs: number } | undefined;
  /** Sweeps that wait for the one that takes what they could not see yet, oldest first, with the losses up to them. */
  readonly #unconfirmed: { readonly sweptMs: number; readonly losses: number }[] = [];
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #restUntilMs = 0;
  readonly #stop = new AbortController();

  constructor(options: UdpSweeperOptions) {
    this.#options = options;
  }

  /** Tells what a Service's UDP ports are now, or the host ports; an empty list: none, or no such Service. */
  update(owner: UdpOwner, ports: readonly UdpPort[]): void {
    this.#told.set(owner, ports);
  }

  /** Rules of all that was told are about to be written. */
  rulesChange(rules: UdpRules = "Services"): void {
    for (const [owner, ports] of this.#told) {
      if (rulesOf(owner) !== rules) continue;
      // Of a write that was refused, parts may have been taken.
      const before = this.#writing.get(owner);
      if (before !== undefined) this.#takesThePlaceOf(owner, before, ports);
      this.#writing.set(owner, ports);
      this.#told.delete(owner);
    }
  }

  #takeWritten(rules: UdpRules): void {
    for (const [owner, ports] of this.#writing) {
      if (rulesOf(owner) !== rules) continue;
      this.#stands(owner, ports);
      this.#writing.delete(owner);
    }
  }

  #stands(owner: UdpOwner, ports: readonly UdpPort[]): void {
    const before = this.#ports.get(owner) ?? [];
    if (ports.length === 0) this.#ports.delete(owner);
    else this.#ports.set(owner, ports);
    this.#takesThePlaceOf(owner, before, ports);
  }

  #takesThePlaceOf(owner: UdpOwner, before: readonly UdpPort[], ports: readonly UdpPort[]): void {
    const now = new Set(ports.flatMap(destinationsOf));
    for (const destination of before.flatMap(destinationsOf))
      if (!now.has(destination)) this.#gone.set(destination, ++this.#losses);
    if (leavesFlowsBehind(before, ports)) this.#leavesFlows.add(rulesOf(owner));
  }

  /** Destinations that rules before ours translated: flows to those of them that are no longer ours are stale. */
  suspect(destinations: readonly (string | number)[]): void {
    const known = [this.#ports, this.#writing, this.#told].flatMap((ports) => [...ports.values()]);
    const ours = new Set(known.flat().flatMap(destinationsOf));
    for (const destination of destinations)
      if (!ours.has(destination)) this.#gone.set(destination, ++this.#losses);
  }

  /** A sweep is needed whatever has changed: at the start, and after rules were missing for a while. */
  suspectAll(rules: UdpRules = "Services"): void {
    this.#leavesFlows.add(rules);
  }

  /** The rules that were being written are in the kernel. Returns at once. */
  rulesChanged(rules: UdpRules = "Services"): void {
    this.#takeWritten(rules);
    if (!this.#leavesFlows.delete(rules)) return;
    const nowMs = performance.now();
    const sinceMs = this.#due?.sinceMs ?? nowMs;
    this.#due = { sinceMs, atMs: Math.min(nowMs + SETTLE_MS, sinceMs + LONGEST_SETTLE_MS) };
    this.#schedule();
  }

  /** Sweeps now, and resolves when it is done; for `--once`, after the rules were written. */
  async sweepNow(): Promise<void> {
    await this.#running;
    this.#takeWritten("Services");
    // Two sweeps at once would take flows from under each other's hands, which `conntrack` does not forgive.
    clearTimeout(this.#timer);
    this.#running = this.#sweep().finally(() => {
      this.#running = undefined;
    });
    await this.#running;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** A sweep that is due stands in for the one that would confirm those before. */
  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#stop.signal.aborted || this.#running !== undefined) return;
    const { confirmMs = CONFIRM_MS } = this.#options;
    const [oldest] = this.#unconfirmed;
    const atMs = this.#due?.atMs ?? (oldest === undefined ? undefined : oldest.sweptMs + confirmMs);
    if (atMs === undefined) return;
    const waitMs = Math.max(0, Math.max(atMs, this.#restUntilMs) - performance.now());
    this.#timer = setTimeout(() => {
      // Timers may be early by a part of a millisecond.
      this.#running = this.#run(Math.max(atMs, performance.now())).finally(() => {
        this.#running = undefined;
        this.#schedule();
      });
    }, waitMs);
  }

  async #run(beganMs: number): Promise<void> {
    const { onFailure, confirmMs = CONFIRM_MS } = this.#options;
    const [due, losses] = [this.#due, this.#losses];
    this.#due = undefined;
    try {
      await this.#sweep();
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      onFailure?.(error instanceof Error ? error.message : String(error));
      const nowMs = performance.now();
      this.#due = { sinceMs: nowMs, atMs: nowMs + RETRY_MS };
      return;
    }
    let confirmed = 0;
    while (this.#unconfirmed[0] !== undefined && this.#unconfirmed[0].sweptMs + confirmMs <= beganMs)
      confirmed = this.#unconfirmed.shift()?.losses ?? confirmed;
    for (const [destination, loss] of this.#gone) if (loss <= confirmed) this.#gone.delete(destination);
    if (due !== undefined) this.#unconfirmed.push({ sweptMs: performance.now(), losses });
  }

  async #sweep(): Promise<void> {
    const began = performance.now();
    const sweep = async (family: IpFamily): Promise<void> => {
      const startedMs = performance.now();
      const deleted = await sweepFamily(family, () => this.#destinations(), {
        ...this.#options.kernel,
        signal: this.#stop.signal,
      });
      this.#options.onSweep?.(family, { deleted, durationMs: performance.now() - startedMs });
    };
    await Promise.all(this.#options.families.map(sweep));
    const now = performance.now();
    this.#restUntilMs = now + (now - began) * (SWEEP_SHARE - 1);
  }

  #destinations(): UdpDestinations {
    const addresses = new Map<string, Set<string>>();
    const nodePorts = new Map<number, Set<string>>();
    for (const destination of this.#gone.keys()) {
      if (typeof destination === "number") nodePorts.set(destination, new Set());
      else addresses.set(destination, new Set());
    }
    for (const ports of [...this.#ports.values(), ...this.#writing.values()]) {
      for (const { destinations, nodePort, endpoints } of ports) {
        // Where two claim one destination, and where old and new rules may stand, flows of either may stay.
        for (const destination of destinations) join(addresses, destination, endpoints);
        if (nodePort !== undefined) join(nodePorts, nodePort, endpoints);
      }
    }
    const { nodeAddresses, hostPortAddresses } = this.#options;
    return {
      addresses,
      nodePorts,
      nodeAddresses: nodeAddresses(),
      hostPortAddresses: hostPortAddresses(),
    };
  }
}

function join<K>(map: Map<K, Set<string>>, key: K, endpoints: ReadonlySet<string>): void {
  const known = map.get(key);
  if (known === undefined) map.set(key, new Set(endpoints));
  else for (const endpoint of endpoints) known.add(endpoint);
}

function destinationsOf({ destinations, nodePort }: UdpPort): readonly (string | number)[] {
  return nodePort === undefined ? destinations : [...destinations, nodePort];
}

/** False only where everything that could flow before may flow on: nothing changed, or endpoints came to some that were there. */
function leavesFlowsBehind(before: readonly UdpPort[], after: readonly UdpPort[]): boolean {
  if (before.length !== after.length) return true;
  return before.some((old, index) => {
    const now = after[index];
    if (now === undefined || String(destinationsOf(old)) !== String(destinationsOf(now))) return true;
    if (old.endpoints.size === 0 && now.endpoints.size > 0) return true;
    return [...old.endpoints].some((endpoint) => !now.endpoints.has(endpoint));
  });
}

/**
 * Deletes the stale flows of one family; how many there were. `destinations` is asked once more when they are known: an
 * endpoint that has come back meanwhile has new flows, which look like the old ones.
 */
export async function sweepFamily(
  family: IpFamily,
  destinations: () => UdpDestinations,
  options: ConntrackOptions = {},
): Promise<number> {
  const listedFor = destinations();
  const stale = new Map<string, Flow>();
  await listUdpFlows(
    family,
    (flow) => {
      if (isStale(flow, listedFor)) stale.set(JSON.stringify(groupOf(flow, false)), flow);
    },
    options,
  );
  if (stale.size === 0) return 0;
  const present = destinations();
  const groups = new Map<string, FlowGroup>();
  for (const flow of stale.values()) {
    if (!isStale(flow, present)) continue;
    const group = groupOf(flow, endpointsFor(flow, present)?.size === 0);
    groups.set(JSON.stringify(group), group);
  }
  let deleted = 0;
  for (const group of groups.values()) deleted += await deleteUdpFlows(family, group, options);
  return deleted;
}

/** Where nobody may answer, one call deletes all flows of the destination; else the flows that one answerer has. */
function groupOf({ destination, destinationPort, zone, ...reply }: Flow, nobodyServes: boolean): FlowGroup {
  return { destination, destinationPort, zone, ...(nobodyServes ? {} : reply) };
}
