/**
 * What the kernel has counted, in Kubernetes' words: new connections by Service port, refused ones by reason.
 *
 * Read from the kernel when somebody asks, and no more often than a small part of one processor pays for.
 */

import type { IpFamily } from "../cluster/model.ts";
import type { BackendName } from "./backends/backend.ts";
import { nftTables } from "./backends/read-back.ts";
import { readIptablesCounts } from "./kernel/iptables-counters.ts";
import { readChainCounts, readServiceCounts } from "./kernel/nft-counters.ts";
import type { KernelOptions } from "./kernel/transactions.ts";

export interface ServicePortCount {
  readonly family: IpFamily;
  readonly namespace: string;
  readonly service: string;
  readonly protocol: string;
  /** Empty for an unnamed port. */
  readonly port: string;
  readonly through: "address" | "node port";
  readonly connections: number;
}

export interface RefusalCount {
  readonly family: IpFamily;
  readonly reason: string;
  readonly connections: number;
}

export interface Counters {
  readonly services: readonly ServicePortCount[];
  readonly refusals: readonly RefusalCount[];
  readonly masqueraded: ReadonlyMap<IpFamily, number>;
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

const NOTHING: Counters = { services: [], refusals: [], masqueraded: new Map(), rules: [] };

/** The counters of a backend; those without any tell nothing. */
export async function readCounters(
  backend: BackendName,
  families: readonly IpFamily[],
  options: KernelOptions = {},
): Promise<Counters> {
  switch (backend) {
    case "nftables":
      return readNftCounters(families, options);
    case "iptables":
      return readIptablesCounters(families, options);
    case "ipvs":
      return NOTHING;
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
    rules: read.flatMap(({ family, counts }) =>
      [...counts.rules].map(([table, rules]) => ({ family, table, rules })),
    ),
  };
}

async function readNftCounters(families: readonly IpFamily[], options: KernelOptions): Promise<Counters> {
  const services: ServicePortCount[] = [];
  const refusals: RefusalCount[] = [];
  const masqueraded = new Map<IpFamily, number>();
  for (const table of nftTables(families)) {
    const family = table.of;
    for (const { label, key, connections } of await readServiceCounts(table, options)) {
      const [namespace = "", service = "", protocol = "", port = ""] = label.split("/");
      const through = key.split(" . ").length === 3 ? "address" : "node port";
      services.push({ family, namespace, service, protocol, port, through, connections });
    }
    for (const { chain, packets } of await readChainCounts(table, options)) {
      if (REFUSING_CHAINS.has(chain)) refusals.push({ family, reason: chain, connections: packets });
      else if (chain === MASQUERADING_CHAIN) masqueraded.set(family, packets);
    }
  }
  return { services, refusals, masqueraded, rules: [] };
}

/** Reading takes at most one part in so many of the time. */
const SHARE = 20;

/** Remembers what was read until reading it anew is paid for. One reading at a time, however many ask. */
export class CachedCounters {
  readonly #read: () => Promise<Counters>;
  #reading: Promise<Counters> | undefined;
  #goodUntilMs = 0;

  constructor(read: () => Promise<Counters>) {
    this.#read = read;
  }

  get(): Promise<Counters> {
    if (this.#reading !== undefined && performance.now() < this.#goodUntilMs) return this.#reading;
    const began = performance.now();
    this.#goodUntilMs = Number.POSITIVE_INFINITY;
    this.#reading = this.#read().finally(() => {
      const now = performance.now();
      this.#goodUntilMs = now + (now - began) * (SHARE - 1);
    });
    return this.#reading;
  }
}
