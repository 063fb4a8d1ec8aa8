/**
 * The NAT compiler, typed: Services and EndpointSlices in, transactions for the kernel's programs out.
 *
 * In: objects in the shape of `cluster/model.ts` (the types below name the fields that count, so a `Service` of the
 * model fits as it is), settings, and the compiled module. Out: transactions as bytes for the standard input of `nft`,
 * `iptables-restore` and so on, diagnostics, and the answer to "what happens to this packet". Not here: running those
 * programs (`agent/kernel`), reading Kubernetes (`cluster/`).
 *
 * The wire between this file and `src/abi` is JSON in linear memory, with one-letter keys where there are many; it is
 * described in `README.md` and private to the two: both are built from the same checkout.
 *
 * One `Nat` is one state machine: it knows what was committed. The order of use is
 * `configure` → `apply` (any number) → `plan` → apply each transaction in order → `commit`, or `rollback` if one failed.
 * After a start with rules of an earlier run, `reconcile` takes the place of the first `plan`.
 */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";

export type NatBackend = "nftables" | "iptables" | "ipvs";
export type NatFamily = "IPv4" | "IPv6";
export type NatProtocol = "TCP" | "UDP" | "SCTP";

/** What counts of a Service. `cluster/model.ts`' `Service` fits. */
export interface NatService {
  readonly meta: {
    readonly namespace: string;
    readonly name: string;
    readonly creationTimestamp?: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations: Readonly<Record<string, string>>;
  };
  readonly type: "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName";
  /** Empty or `["None"]`: nothing to program. */
  readonly clusterIPs: readonly string[];
  readonly ports: readonly {
    readonly name: string;
    readonly protocol: NatProtocol;
    readonly port: number;
    readonly nodePort?: number;
  }[];
  readonly externalIPs: readonly string[];
  readonly loadBalancerSourceRanges: readonly string[];
  readonly loadBalancerIngress: readonly {
    readonly ip?: string;
    readonly hostname?: string;
    readonly ipMode: "VIP" | "Proxy";
  }[];
  readonly internalTrafficPolicy: "Cluster" | "Local";
  readonly externalTrafficPolicy: "Cluster" | "Local";
  /** Where the node answers health checks of a load balancer; counts only with `externalTrafficPolicy: Local`. */
  readonly healthCheckNodePort?: number;
  /** Absent: no session affinity. */
  readonly sessionAffinityTimeoutSeconds?: number;
}

/** What counts of an EndpointSlice. `cluster/model.ts`' `EndpointSlice` fits. */
export interface NatEndpointSlice {
  readonly meta: { readonly namespace: string; readonly name: string };
  readonly serviceName: string;
  readonly addressType: NatFamily | "FQDN";
  readonly ports: readonly {
    readonly name: string;
    readonly protocol: NatProtocol;
    readonly port?: number;
  }[];
  readonly endpoints: readonly {
    readonly addresses: readonly string[];
    readonly ready: boolean;
    readonly serving: boolean;
    readonly terminating: boolean;
    readonly nodeName?: string;
    readonly zone?: string;
    readonly hintsForZones: readonly string[];
    readonly hintsForNodes: readonly string[];
  }[];
}

/** The node that the rules are for. */
export interface NatNode {
  readonly name: string;
  /** Label `topology.kubernetes.io/zone`. */
  readonly zone?: string;
  /** The primary address of each family first. */
  readonly addresses: { readonly IPv4: readonly string[]; readonly IPv6: readonly string[] };
}

/** Which traffic counts as coming from a pod of the cluster. */
export type NatLocalDetector =
  | { readonly kind: "none" }
  | { readonly kind: "cidrs"; readonly cidrs: readonly string[] }
  | { readonly kind: "interface"; readonly name: string }
  | { readonly kind: "interfacePrefix"; readonly prefix: string };

/** A port of the node that a ConfigMap exposes. `agent/exposed-services.ts`' `ExposedService` fits. */
export interface NatExposedService {
  readonly protocol: NatProtocol;
  readonly nodePort: number;
  /** `namespace/name`. */
  readonly service: string;
  /** A number is the Service's port, a text its name. */
  readonly port: number | string;
}

/** What the operator chose; what is absent has the default that the comment names. */
export interface NatSettings {
  readonly backend: NatBackend;
  readonly node: NatNode;
  /** Both. */
  readonly families?: readonly NatFamily[];
  /** `{ kind: "none" }`. */
  readonly localDetector?: NatLocalDetector;
  /** `false`. */
  readonly masqueradeAll?: boolean;
  /** `false`. Drop what the connection table calls invalid (iptables, IPVS), as it has to be where it is not liberal. */
  readonly dropInvalid?: boolean;
  /** 14: mark 0x4000. */
  readonly masqueradeBit?: number;
  /** `primary`, `all` and CIDRs; by default `["primary"]` for nftables, `["all"]` for the others. */
  readonly nodePortAddresses?: readonly string[];
  /** None: then addresses of no Service are not dropped. */
  readonly serviceCidrs?: readonly string[];
  /** None. */
  readonly exposed?: readonly NatExposedService[];
  /** How IPVS chooses for Services that do not say it: a name of the kernel's. `rr`, or `wrr` where there are weights. */
  readonly ipvsScheduler?: string;
  /** None. Virtual servers and addresses of `kube-ipvs0` in these ranges are somebody else's and left alone. */
  readonly ipvsExcluded?: readonly string[];
}

/** What changed since the last call. Upserts replace the whole object; names are `namespace/name`. */
export interface NatChanges {
  readonly services?: Iterable<NatService>;
  readonly deletedServices?: Iterable<string>;
  readonly endpointSlices?: Iterable<NatEndpointSlice>;
  readonly deletedEndpointSlices?: Iterable<string>;
}

/** The same shape as `cluster/diagnostic.ts`' `Diagnostic`. */
export interface NatDiagnostic {
  readonly severity: "error" | "warning" | "info";
  readonly kind: string;
  readonly object: string;
  readonly field?: string;
  readonly message: string;
}

export type NatProgram =
  | "nft"
  | "iptables-restore"
  | "ip6tables-restore"
  | "ip-batch"
  | "ipset-restore"
  | "ipvsadm-restore";

/** What one run of one program applies as a whole or not at all. */
export interface NatTransaction {
  readonly program: NatProgram;
  /** UTF-8, a copy. */
  readonly text: Uint8Array;
  /** Elements, rules or objects that it adds or deletes. */
  readonly operations: number;
  /** May be applied at the same time as the one before it: neither counts on what the other brings. */
  readonly beside: boolean;
  /** Leaves chains, rules and declarations as they are. */
  readonly elementsOnly: boolean;
}

export interface NatPlan {
  /** Nothing to do: no transaction. */
  readonly empty: boolean;
  /**
   * To be applied in this order, one after the other, but for those that may go beside the one before. Each is made when
   * it is asked for, so that a large plan never stands in memory as a whole; they can be walked once. Where nothing
   * stands, Services are compiled along with it.
   */
  readonly transactions: IterableIterator<NatTransaction>;
  /** Of the objects that were compiled before the first transaction, sorted. `Nat.diagnostics` tells those of all objects. */
  readonly diagnostics: readonly NatDiagnostic[];
}

/** A connection's first packet, as it reaches the node (or leaves one of its processes, if `from` is the node's). */
export interface NatPacket {
  readonly from: string;
  readonly to: string;
  readonly port: number;
  readonly protocol?: NatProtocol;
  /** Where it comes in; only the interface detectors look at it. */
  readonly interface?: string;
}

export interface NatTrace {
  readonly verdict: "dnat" | "reject" | "drop" | "untouched";
  /** `ip:port` or `[ip6]:port`, sorted; those between which chance, a counter or a hash decides. */
  readonly endpoints: readonly string[];
  /** The endpoint sees an address of the node instead of the packet's source, whichever endpoint is chosen. */
  readonly masquerade: boolean;
  /** The endpoints for which alone it is masqueraded: the source itself (hairpin). Empty when `masquerade` says all. */
  readonly hairpin: readonly string[];
  /** In the order in which the packet met them. */
  readonly rules: readonly NatTraceRule[];
}

export interface NatTraceRule {
  /** `ip fairlead`, `nat`, … */
  readonly table: string;
  readonly chain: string;
  /** As the backend's program prints it; for a map with the element that matched. */
  readonly rule: string;
  /** The Kubernetes object behind it: `Service default/web port http (ClusterIP 172.30.0.41:80/tcp)`. */
  readonly object?: string;
}

/** Numbers for metrics. */
export interface NatStatus {
  readonly services: number;
  readonly endpointSlices: number;
  /** Service ports whose traffic under policy Local finds no endpoint here although there are some elsewhere. */
  readonly noLocalEndpoints: Readonly<
    Record<NatFamily, { readonly internal: number; readonly external: number }>
  >;
  /** Bytes of linear memory. */
  readonly memoryBytes: number;
}

/** What is read back from the kernel: one listing of `NatListing.command`, as printed. */
export interface NatListing {
  readonly family: NatFamily;
  readonly text: string | Uint8Array;
}

/** The same in pieces of whole lines, each of which is taken before the next one is asked for. */
export interface NatListingInPieces {
  readonly family: NatFamily;
  readonly pieces: Iterable<Uint8Array>;
}

export interface Nat {
  /** Settings and node; may be called again when either changes. Returns diagnostics about the settings themselves. */
  configure(settings: NatSettings): readonly NatDiagnostic[];
  /** Takes what changed. Nothing is compiled yet. */
  apply(changes: NatChanges): void;
  /** The transactions from the committed state to the wanted one. A plan before is rolled back. */
  plan(): NatPlan;
  /**
   * The transactions from what the kernel holds (listings of each family's table, or none where there is no table) to
   * the wanted state. For the start, for audits, and after a failed transaction. Nothing to do if they agree.
   */
  reconcile(listings: readonly NatListing[]): NatPlan;
  /**
   * Whether the kernel holds what was committed, by listings as for `reconcile`; what has changed since is not looked at and
   * still to be planned. A plan before is rolled back. With nftables it takes no memory, since listings are read piece by
   * piece and added up, and it says no also to other numbers or another order, which `reconcile` would take over. Other
   * work gets its turn between pieces; `undefined` as soon as `isStale` says that a plan was made meanwhile.
   */
  isIntact(listings: readonly NatListingInPieces[], isStale?: () => boolean): Promise<boolean | undefined>;
  /** One transaction (for each program) that replaces whatever stands by the wanted state. */
  replace(): NatPlan;
  /**
   * IPVS: the removal of real servers that only waited for their connections to end, as far as `ipvsadm -Ln` says that
   * they have. To be carried out as a plan.
   */
  drain(listing: string): NatPlan;
  /** Every transaction of the last plan was applied. */
  commit(): void;
  /** Some transaction of the last plan was not; the next plan starts from the state before, so reconcile or replace. */
  rollback(): void;
  /** The complete rules, as a program's input; one text a program. */
  render(family?: NatFamily): readonly NatTransaction[];
  /** Walks the wanted rules. Throws on an address that is none. */
  trace(packet: NatPacket): NatTrace;
  /** Of all objects, sorted. */
  diagnostics(): readonly NatDiagnostic[];
  status(): NatStatus;
}

/** Where `build.mjs` leaves the module; in an installed package it lies beside the bundle that this file is part of. */
export const natModulePath = [
  new URL("./dist/wasm_nat.wasm", import.meta.url),
  new URL("./wasm_nat.wasm", import.meta.url),
].find((url, index, all) => index === all.length - 1 || existsSync(url)) as URL;

/** A fresh state machine. `module`: compiled already, its bytes, or absent for the built file. */
export async function createNat(module?: WebAssembly.Module | Uint8Array<ArrayBuffer>): Promise<Nat> {
  const compiled =
    module instanceof WebAssembly.Module
      ? module
      : await WebAssembly.compile(module ?? new Uint8Array(await readFile(natModulePath)));
  const instance = await WebAssembly.instantiate(compiled, {});
  return new Machine(instance.exports as unknown as Exports);
}

/** What `src/abi` exports. Every call returns 0 for an answer, 1 for an error sentence, both in the output. */
interface Exports {
  readonly memory: WebAssembly.Memory;
  /** Makes room for `length` bytes of input and tells where. */
  input(length: number): number;
  output_address(): number;
  output_length(): number;
  configure(): number;
  apply(): number;
  plan(): number;
  reconcile_begin(): number;
  reconcile_listing(): number;
  reconcile(): number;
  replace(): number;
  audit_begin(): number;
  audit_lines(): number;
  audit(): number;
  drain(): number;
  next_transaction(): number;
  commit(): number;
  rollback(): number;
  render(): number;
  trace(): number;
  diagnostics(): number;
  status(): number;
}

type Call = Exclude<keyof Exports, "memory" | "input" | "output_address" | "output_length">;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Objects a batch of `apply`: bounds the JSON text that stands in memory at once. */
const BATCH = 2000;

class Machine implements Nat {
  readonly #wasm: Exports;
  /** Counts plans, so that the transactions of an older plan cannot be walked any more. */
  #plans = 0;

  constructor(wasm: Exports) {
    this.#wasm = wasm;
  }

  configure(settings: NatSettings): readonly NatDiagnostic[] {
    return this.#ask<readonly NatDiagnostic[]>("configure", settings);
  }

  apply(changes: NatChanges): void {
    const deleted = {
      D: [...(changes.deletedServices ?? [])],
      F: [...(changes.deletedEndpointSlices ?? [])],
    };
    if (deleted.D.length + deleted.F.length > 0) this.#call("apply", JSON.stringify(deleted));
    for (const S of batches(changes.services ?? [], wireService)) this.#call("apply", JSON.stringify({ S }));
    for (const E of batches(changes.endpointSlices ?? [], wireSlice))
      this.#call("apply", JSON.stringify({ E }));
  }

  plan(): NatPlan {
    return this.#plan("plan");
  }

  reconcile(listings: readonly NatListing[]): NatPlan {
    this.#handListings(listings);
    return this.#plan("reconcile");
  }

  #handListings(listings: readonly NatListing[]): void {
    this.#call("reconcile_begin", "");
    for (const { family, text } of listings) {
      const bytes = typeof text === "string" ? encoder.encode(text) : text;
      // The listing follows the family's name and a line break: it is large, and JSON would only make it larger.
      this.#call("reconcile_listing", encoder.encode(`${family}\n`), bytes);
    }
  }

  async isIntact(
    listings: readonly NatListingInPieces[],
    isStale: () => boolean = () => false,
  ): Promise<boolean | undefined> {
    this.#plans++;
    this.#call("audit_begin", "");
    for (const { family, pieces } of listings) {
      for (const lines of pieces) {
        this.#call("audit_lines", encoder.encode(`${family}\n`), lines);
        await nextTurn();
        if (isStale()) return undefined;
      }
    }
    return this.#ask<boolean>("audit", "");
  }

  replace(): NatPlan {
    return this.#plan("replace");
  }

  drain(listing: string): NatPlan {
    return this.#plan("drain", listing);
  }

  commit(): void {
    this.#plans++;
    this.#call("commit", "");
  }

  rollback(): void {
    this.#plans++;
    this.#call("rollback", "");
  }

  render(family?: NatFamily): readonly NatTransaction[] {
    // `LENGTH\n` before each transaction.
    this.#call("render", family ?? "");
    const transactions: NatTransaction[] = [];
    let rest = this.#output();
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const next = end + 1 + Number(decoder.decode(rest.subarray(0, end)));
      const transaction = this.#transaction(rest.subarray(end + 1, next));
      if (transaction !== undefined) transactions.push(transaction);
      rest = rest.subarray(next);
    }
    return transactions;
  }

  trace(packet: NatPacket): NatTrace {
    return this.#ask<NatTrace>("trace", packet);
  }

  diagnostics(): readonly NatDiagnostic[] {
    return this.#ask<readonly NatDiagnostic[]>("diagnostics", "");
  }

  status(): NatStatus {
    const counts = this.#ask<Omit<NatStatus, "memoryBytes">>("status", "");
    return { ...counts, memoryBytes: this.#wasm.memory.buffer.byteLength };
  }

  #plan(call: "plan" | "reconcile" | "replace" | "drain", input = ""): NatPlan {
    const { empty, diagnostics } = this.#ask<Omit<NatPlan, "transactions">>(call, input);
    const number = ++this.#plans;
    return { empty, diagnostics, transactions: this.#transactions(number) };
  }

  *#transactions(plan: number): Generator<NatTransaction, undefined, undefined> {
    while (plan === this.#plans) {
      this.#call("next_transaction", "");
      const transaction = this.#transaction(this.#output());
      if (transaction === undefined) return;
      yield transaction;
    }
    throw new Error("this plan is over: another one was made, or it was committed or rolled back");
  }

  /** `PROGRAM OPERATIONS\n`, with ` beside` and ` elements` where it is so, then the text; nothing when there is no more. */
  #transaction(output: Uint8Array): NatTransaction | undefined {
    const end = output.indexOf(10);
    if (end < 0) return undefined;
    const [program = "", operations = "", ...flags] = decoder.decode(output.subarray(0, end)).split(" ");
    return {
      program: program as NatProgram,
      text: output.slice(end + 1),
      operations: Number(operations),
      beside: flags.includes("beside"),
      elementsOnly: flags.includes("elements"),
    };
  }

  #ask<T>(call: Call, question: object | string): T {
    this.#call(call, typeof question === "string" ? question : JSON.stringify(question));
    return JSON.parse(decoder.decode(this.#output())) as T;
  }

  #call(call: Call, ...inputs: readonly (string | Uint8Array)[]): void {
    const parts = inputs.map((part) => (typeof part === "string" ? encoder.encode(part) : part));
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    // Before the view: making room may grow the memory, which detaches every older buffer.
    let place = this.#wasm.input(length);
    const memory = new Uint8Array(this.#wasm.memory.buffer);
    for (const part of parts) {
      memory.set(part, place);
      place += part.length;
    }
    if (this.#wasm[call]() !== 0) throw new NatError(decoder.decode(this.#output()));
  }

  /** A view, good until the next call. */
  #output(): Uint8Array {
    const { memory, output_address, output_length } = this.#wasm;
    return new Uint8Array(memory.buffer, output_address(), output_length());
  }
}

/** The caller asked for something that makes no sense: one sentence. Never about an object of the cluster. */
export class NatError extends Error {
  override readonly name = "NatError";
}

function* batches<T, W>(objects: Iterable<T>, wire: (object: T) => W): Generator<W[]> {
  let batch: W[] = [];
  for (const object of objects) {
    batch.push(wire(object));
    if (batch.length < BATCH) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** Labels and annotations that mean something to the compiler; all others stay here. */
const LABELS = ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"] as const;
const BALANCE = "fairlead.dev/balance";
const WEIGHTS = "fairlead.dev/weights";
const SCHEDULER = "fairlead.dev/ipvs-scheduler";

/** What has its default is left out (`JSON.stringify` drops `undefined`). */
function wireService(service: NatService): object {
  const { meta } = service;
  const labels = LABELS.filter((label) => meta.labels[label] !== undefined);
  return {
    n: `${meta.namespace}/${meta.name}`,
    t: meta.creationTimestamp,
    l: unlessEmpty(labels),
    k: service.type === "ExternalName" ? service.type : undefined,
    c: service.clusterIPs,
    x: unlessEmpty(service.externalIPs),
    // Only addresses that packets are really sent to by this node: kube-proxy's meaning of ipMode.
    b: unlessEmpty(
      service.loadBalancerIngress.flatMap(({ ip, ipMode }) =>
        ip !== undefined && ipMode === "VIP" ? [ip] : [],
      ),
    ),
    r: unlessEmpty(service.loadBalancerSourceRanges),
    p: service.ports.map(({ name, protocol, port, nodePort }) => [name, protocol, port, nodePort ?? 0]),
    i: service.internalTrafficPolicy === "Local" ? true : undefined,
    e: service.externalTrafficPolicy === "Local" ? true : undefined,
    h:
      service.type === "LoadBalancer" && service.externalTrafficPolicy === "Local"
        ? service.healthCheckNodePort
        : undefined,
    a: service.sessionAffinityTimeoutSeconds,
    w: meta.annotations[WEIGHTS],
    m: meta.annotations[BALANCE],
    s: meta.annotations[SCHEDULER],
  };
}

function wireSlice(slice: NatEndpointSlice): object {
  return {
    n: `${slice.meta.namespace}/${slice.meta.name}`,
    s: slice.serviceName,
    f: slice.addressType,
    p: slice.ports.flatMap(({ name, protocol, port }) =>
      port === undefined ? [] : [[name, protocol, port]],
    ),
    e: slice.endpoints.map((endpoint) => ({
      a: endpoint.addresses[0] ?? "",
      // Bits: ready 1, serving 2, terminating 4; absent: ready and serving.
      s: unlessUsual(
        Number(endpoint.ready) + 2 * Number(endpoint.serving) + 4 * Number(endpoint.terminating),
        3,
      ),
      n: endpoint.nodeName,
      z: endpoint.zone,
      h: unlessEmpty(endpoint.hintsForZones),
      o: unlessEmpty(endpoint.hintsForNodes),
    })),
  };
}

function unlessEmpty<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length > 0 ? list : undefined;
}

function unlessUsual(value: number, usual: number): number | undefined {
  return value === usual ? undefined : value;
}
