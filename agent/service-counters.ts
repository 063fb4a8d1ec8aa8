/**
 * What the kernel has counted, in Kubernetes' words: new connections by Service port, refused ones by reason.
 *
 * Read from the kernel when somebody asks, and no more often than a small part of one processor pays for.
 */

import type { ExposedService } from "../cluster/exposed-services.ts";
import { hostPort } from "../cluster/ip-address.ts";
import type { ClusterModel, IpFamily } from "../cluster/model.ts";
import type { BackendName } from "./backends/backend.ts";
import { nftTables } from "./backends/read-back.ts";
import { DestinationOwners } from "./destinations.ts";
import { readIptablesCounts } from "./kernel/iptables-counters.ts";
import { readIpvsRuleCounts, readServerCounts, type VirtualServer } from "./kernel/ipvs-counters.ts";
import { readChainCounts, readServiceCounts } from "./kernel/nft-counters.ts";
import type { KernelOptions } from "./kernel/transactions.ts";

export interface ServicePortOwner {
  /** Empty where the kernel does not tell whose it is; then `service` is address and port. */
  readonly namespace: string;
  readonly service: string;
  /** Empty for an unnamed port. */
  readonly port: string;
  readonly through: "address" | "node port";
}

export interface ServicePortCount extends ServicePortOwner {
  readonly family: IpFamily;
  readonly protocol: string;
  readonly connections: number;
}

/** Whose a virtual server of IPVS is, which says nothing of it itself. */
export type OwnerOf = (server: VirtualServer) => ServicePortOwner | undefined;

/** As the objects of the cluster say. */
export function ownersFrom(
  model: Pick<ClusterModel, "services">,
  exposed: readonly ExposedService[],
): OwnerOf {
  const owners = new DestinationOwners(model, exposed);
  return ({ protocol, address, port: number }) => {
    const claim = owners.of({ protocol: PROTOCOLS[protocol], address, port: number });
    if (claim === undefined) return undefined;
    const { service, port, kind } = claim;
    const through = kind === "node port" || kind === "exposed port" ? "node port" : "address";
    return { namespace: service.meta.namespace, service: service.meta.name, port: port.name, through };
  };
}

const PROTOCOLS = { tcp: "TCP", udp: "UDP", sctp: "SCTP" } as const;

export interface RefusalCount {
  readonly family: IpFamily;
  readonly reason: string;
  readonly connections: number;
}

export interface Counters {
  readonly services: readonly ServicePortCount[];
  readonly refusals: readonly RefusalCount[];
  readonly masqueraded: ReadonlyMap<IpFamily, number>;
  /** iptables and IPVS: packets that were dropped because the connection table calls them invalid. */
  readonly invalid: ReadonlyMap<IpFamily, number>;
  /** iptables: rules in chains of Services, by table. */
  readonly rules: readonly { readonly family: IpFamily; readonly table: string; readonly rules: number }[];
}

/** Chains of wasm-nat's nftables layout that refuse; their names are the reasons. */
const REFUSING_CHAINS: ReadonlySet<string> = new Set([
  "no-endpoints",
  "no-local-endpoints",
  "undefined-port",
  "unallocated",
  "source-not-allowed",
]);
const MASQUERADING_CHAIN = "postrouting";

/** The counters of a backend. `owners` are asked for by IPVS alone. Rejects with `KernelError` or `CommandError`. */
export async function readCounters(
  backend: BackendName,
  families: readonly IpFamily[],
  { owners, ...options }: KernelOptions & { readonly owners?: () => OwnerOf } = {},
): Promise<Counters> {
  switch (backend) {
    case "nftables":
      return readNftCounters(families, options);
    case "iptables":
      return readIptablesCounters(families, options);
    case "ipvs":
      return readIpvsCounters(families, options, owners?.());
    default:
      return backend satisfies never;
  }
}

async function readIptablesCounters(
  families: readonly IpFamily[],
  options: KernelOptions,
): Promise<Counters> {
  const read = await Promise.all(
    families.map(async (family) => ({ family, counts: await readIptablesCounts(family, options) })),
  );
  return {
    services: read.flatMap(({ family, counts }) =>
      counts.services.map(({ service, ...rest }) => {
        const [namespace = "", name = ""] = service.split("/");
        return { family, namespace, service: name, ...rest };
      }),
    ),
    refusals: read.flatMap(({ family, counts }) =>
      [...counts.refusals].map(([reason, connections]) => ({ family, reason, connections })),
    ),
    masqueraded: new Map(read.map(({ family, counts }) => [family, counts.masqueraded])),
    invalid: new Map(read.map(({ family, counts }) => [family, counts.invalid])),
    rules: read.flatMap(({ family, counts }) =>
      [...counts.rules].map(([table, rules]) => ({ family, table, rules })),
    ),
  };
}

async function readIpvsCounters(
  families: readonly IpFamily[],
  options: KernelOptions,
  ownerOf: OwnerOf | undefined,
): Promise<Counters> {
  const [servers, ...rules] = await Promise.all([
    readServerCounts(options),
    ...families.map(async (family) => ({ family, counts: await readIpvsRuleCounts(family, options) })),
  ]);
  // A node port is a virtual server at every address that has it.
  const services = new Map<string, ServicePortCount>();
  for (const { family, destinations, connections } of servers) {
    if (!families.includes(family)) continue;
    const [{ protocol, address, port }] = destinations;
    const owners = destinations.flatMap((destination) => ownerOf?.(destination) ?? []);
    const owner = owners.find(({ through }) => through === "address") ??
      owners[0] ?? { namespace: "", service: hostPort(address, port), port: "", through: "address" };
    const key = JSON.stringify([family, protocol, owner]);
    const before = services.get(key)?.connections ?? 0;
    services.set(key, { family, protocol, ...owner, connections: before + connections });
  }
  return {
    services: [...services.values()],
    refusals: rules.flatMap(({ family, counts }) =>
      [...counts.refusals].map(([reason, connections]) => ({ family, reason, connections })),
    ),
    masqueraded: new Map(rules.map(({ family, counts }) => [family, counts.masqueraded])),
    invalid: new Map(rules.map(({ family, counts }) => [family, counts.invalid])),
    rules: [],
  };
}

async function readNftCounters(families: readonly IpFamily[], options: KernelOptions): Promise<Counters> {
  const services: ServicePortCount[] = [];
  const refusals: RefusalCount[] = [];
  const masqueraded = new Map<IpFamily, number>();
  for (const table of nftTables(families)) {
    const family = table.of;
    for (const { label, through, connections } of await readServiceCounts(table, options)) {
      const [namespace = "", service = "", protocol = "", port = ""] = label.split("/");
      services.push({ family, namespace, service, protocol, port, through, connections });
    }
    for (const { chain, packets } of await readChainCounts(table, options)) {
      if (REFUSING_CHAINS.has(chain)) refusals.push({ family, reason: chain, connections: packets });
      else if (chain === MASQUERADING_CHAIN) masqueraded.set(family, packets);
    }
  }
  return { services, refusals, masqueraded, invalid: new Map(), rules: [] };
}

/** Reading takes at most one part in so many of the time. */
const SHARE = 20;
/** Who asks waits no longer: a scrape of Prometheus ends after 10 s. */
const PATIENCE_MS = 3_000;
/** Most of what a program that hangs takes is not work. */
const LONGEST_PAUSE_AFTER_FAILURE_MS = 60_000;

export interface CachedCountersOptions {
  readonly read: () => Promise<Counters>;
  /** One sentence; `isAgain`: the reading before has failed by the same. */
  readonly onFailure?: (message: string, isAgain: boolean) => void;
  readonly patienceMs?: number;
  readonly share?: number;
}

/** Remembers what was read until reading it anew is paid for. One reading at a time, however many ask. */
export class CachedCounters {
  readonly #options: CachedCountersOptions;
  #reading: Promise<void> | undefined;
  #goodUntilMs = 0;
  #counters: Counters | undefined;
  #failure: string | undefined;

  constructor(options: CachedCountersOptions) {
    this.#options = options;
  }

  /** What was read last: now, where that is paid for, works and ends in time. `undefined`: nothing was yet. */
  async get(): Promise<Counters | undefined> {
    if (performance.now() >= this.#goodUntilMs) this.#reading = this.#readAnew();
    const { patienceMs = PATIENCE_MS } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      this.#reading,
      new Promise<void>((resolve) => {
        timer = setTimeout(resolve, patienceMs);
      }),
    ]);
    clearTimeout(timer);
    return this.#counters;
  }

  async #readAnew(): Promise<void> {
    const { read, onFailure, share = SHARE } = this.#options;
    const began = performance.now();
    this.#goodUntilMs = Number.POSITIVE_INFINITY;
    let longestPauseMs = Number.POSITIVE_INFINITY;
    try {
      this.#counters = await read();
      this.#failure = undefined;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const isAgain = message === this.#failure;
      this.#failure = message;
      longestPauseMs = LONGEST_PAUSE_AFTER_FAILURE_MS;
      onFailure?.(message, isAgain);
    }
    const now = performance.now();
    this.#goodUntilMs = now + Math.min(longestPauseMs, (now - began) * (share - 1));
  }
}
