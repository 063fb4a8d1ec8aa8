/**
 * A backend made of the NAT compiler and the kernel's programs: plans go in as transactions, listings come back.
 *
 * In: a `Nat` that knows what is wanted, and how its rules are read back. Out: writes, resyncs and audits for the sync loop.
 * The compiler's committed state moves only when the kernel has taken every transaction of a plan.
 */

import type { IpFamily } from "../../cluster/model.ts";
import type { Nat, NatPlan, NatTransaction } from "../../wasm-nat/nat.ts";
import { KernelError } from "../kernel/kernel-error.ts";
import { applyTransaction, familyOfProgram, type KernelOptions } from "../kernel/transactions.ts";
import { type Audit, type Backend, OneFamilyError, type Written } from "./backend.ts";
import type { ReadBack, SpooledListing } from "./read-back.ts";

export interface NatBackendOptions {
  readonly nat: Nat;
  readonly readBack: ReadBack;
  /** Hands the changes that have come to the compiler; called right before a plan is made. */
  readonly takeChanges: () => void;
  readonly kernel?: KernelOptions;
  /** What stood in the kernel when it was read back, before anything is written. */
  readonly onListing?: (text: string | Uint8Array) => void;
  /** Something was compiled; `Nat.diagnostics` tells what there is to say about it. */
  readonly onDiagnostics?: () => void;
  /** Changes were refused again and again, so everything that stood was replaced. */
  readonly onReplaced?: () => void;
  /** The kernel has taken it. */
  readonly onApplied?: ((transaction: NatTransaction) => void) | undefined;
  /** Audits will follow; `false`: nothing is read for their sake. */
  readonly isWatched?: boolean | undefined;
  readonly nowMs?: () => number;
}

const FAMILIES = ["IPv4", "IPv6"] as const satisfies readonly IpFamily[];
/** Reading everything back takes at most one part in so many of the time, and of one processor. */
const AUDIT_SHARE = 25;
const SHORTEST_AUDIT_PAUSE_MS = 4_000;
/** Full audits in a row that a write came into, before one holds writes up: those that cannot see rules otherwise wait less. */
const MOST_STALE = { fingerprint: 8, none: 1 } as const;
const MANY_CHANGES = 1_000;
/** An endpoint without connections costs nothing; kube-proxy looks every minute. */
const DRAIN_PAUSE_MS = 2_000;
/** A fingerprint that takes longer is read beside the changes, not between them: `nft` reads other people's rules for it, too. */
const DEAR_MS = 100;
/** Programs at work at the same time: most of what one takes is its own reading, which the kernel's lock does not hold up. */
const MOST_BESIDE = 3;
/** Audits stand behind everything else on the node. */
const POLITELY = ["nice", "-n", "10"] as const;
/** So many refused plans in a row: what stands takes no changes, whatever is read back from it. */
const REFUSALS_BEFORE_REPLACING = 2;

export class NatBackend implements Backend {
  readonly #options: NatBackendOptions;
  readonly #kernel: KernelOptions;
  readonly #nowMs: () => number;
  /** Of the kernel after the last write of chains or rules; `undefined`: not read since. */
  #fingerprint: string | undefined;
  /** Counts writes, so that an audit knows whether one came in between. */
  #writes = 0;
  /** Those among them of chains or rules. */
  #chainWrites = 0;
  /** What the last fingerprint took. */
  #fingerprintMs = 0;
  #nextFingerprintMs = 0;
  #nextFullAuditMs = 0;
  /** Full audits in a row that found nothing because something was written meanwhile. */
  #stale = 0;
  #nextDrainMs = 0;
  /** Something is read beside the changes. */
  #auditing = false;
  /** Of what was read so. */
  #found: Audit | Error | undefined;
  /** Chains or rules are others than were written, so their number proves nothing. */
  #isForged = false;
  /** Plans that the kernel has refused since it took the last change. */
  #refusals = 0;

  constructor(options: NatBackendOptions) {
    this.#options = options;
    this.#kernel = options.kernel ?? {};
    this.#nowMs = options.nowMs ?? (() => performance.now());
  }

  readonly write = async (): Promise<Written> => {
    this.#options.takeChanges();
    const written = await this.#counted(this.#options.nat.plan());
    if (written.changes > 0) this.#refusals = 0;
    return written;
  };

  readonly resync = async (): Promise<Written> => {
    const { nat, readBack, takeChanges, onListing, onReplaced, isWatched = true } = this.#options;
    const listings = await readBack.listing(this.#kernel);
    for (const { text } of listings) onListing?.(text);
    takeChanges();
    const isStuck = readBack.isReplaceable && this.#refusals >= REFUSALS_BEFORE_REPLACING;
    // If that is refused, too, the next attempt is by the listing again.
    if (isStuck) this.#refusals = 0;
    let plan = isStuck ? nat.replace() : nat.reconcile(listings);
    // A listing tells how many rules a chain has, not whether they are ours.
    if (plan.empty && this.#isForged) plan = nat.replace();
    const written = await this.#counted(plan);
    if (isStuck) onReplaced?.();
    this.#isForged = false;
    // Where it is dear, the next audit takes it for what was written.
    if (isWatched && this.#fingerprintMs < DEAR_MS)
      this.#fingerprint ??= await this.#readFingerprint(this.#kernel);
    this.#nextFullAuditMs = this.#nowMs() + SHORTEST_AUDIT_PAUSE_MS;
    return written;
  };

  readonly audit = async (): Promise<Audit> => {
    const { nat, readBack } = this.#options;
    if (readBack.connections !== undefined && this.#nowMs() >= this.#nextDrainMs) {
      this.#nextDrainMs = this.#nowMs() + DRAIN_PAUSE_MS;
      await this.#carryOut(nat.drain(await readBack.connections(this.#kernel)));
    }
    if (readBack.fingerprint !== undefined && this.#nowMs() >= this.#nextFingerprintMs) {
      if (this.#fingerprintMs < DEAR_MS) {
        const audit = await this.#compareFingerprint(this.#kernel);
        if (audit.kind === "drifted") return audit;
      } else {
        this.#beside((kernel) => this.#compareFingerprint(kernel));
      }
    }
    return this.#auditEverything();
  };

  async #readFingerprint(kernel: KernelOptions): Promise<string | undefined> {
    const began = this.#nowMs();
    try {
      return await this.#options.readBack.fingerprint?.(kernel);
    } finally {
      this.#fingerprintMs = this.#nowMs() - began;
      this.#nextFingerprintMs = this.#nowMs() + this.#fingerprintMs * (AUDIT_SHARE - 1);
    }
  }

  async #compareFingerprint(kernel: KernelOptions): Promise<Audit> {
    const writes = this.#chainWrites;
    const fingerprint = await this.#readFingerprint(kernel);
    // Written meanwhile: it may be of before or after.
    if (writes !== this.#chainWrites) return INTACT;
    this.#fingerprint ??= fingerprint;
    if (fingerprint === this.#fingerprint) return INTACT;
    this.#fingerprint = undefined;
    this.#isForged = true;
    return {
      kind: "drifted",
      what: "somebody else has changed the chains or rules of this node's Services",
    };
  }

  /**
   * Tells what was found beside the changes, or begins a full audit when it is time. Waits for it only where writes have come
   * into all of them for long: changes must not wait.
   */
  async #auditEverything(): Promise<Audit> {
    const { readBack } = this.#options;
    const found = this.#found;
    this.#found = undefined;
    if (found instanceof Error) throw found;
    if (found !== undefined) return found;
    if (!this.#auditing && this.#nowMs() >= this.#nextFullAuditMs) {
      const mostStale = readBack.fingerprint === undefined ? MOST_STALE.none : MOST_STALE.fingerprint;
      if (this.#stale >= mostStale) return await this.#compareEverything(this.#kernel);
      this.#beside((kernel) => this.#compareEverything(kernel));
    }
    return INTACT;
  }

  /** One at a time; a later audit tells what it has found. */
  #beside(look: (kernel: KernelOptions) => Promise<Audit>): void {
    if (this.#auditing) return;
    this.#auditing = true;
    const through = [...(this.#kernel.through ?? []), ...POLITELY];
    void look({ ...this.#kernel, through })
      .catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))))
      .then((audit) => {
        this.#found = audit;
        this.#auditing = false;
      });
  }

  async #compareEverything(kernel: KernelOptions): Promise<Audit> {
    const { nat, readBack } = this.#options;
    const began = this.#nowMs();
    const writes = this.#writes;
    let spooled: SpooledListing | undefined;
    try {
      spooled = await readBack.spool(kernel);
      // Something was written meanwhile: the listing may be of before or after. A plan that is made while `isIntact` hears
      // the listing is seen, too: it counts as a write within the same turn of the event loop.
      const isStale = (): boolean => writes !== this.#writes;
      const isIntact = isStale() ? undefined : await nat.isIntact(spooled.listings, isStale);
      this.#stale = isIntact === undefined ? this.#stale + 1 : 0;
      if (isIntact !== false) return INTACT;
      return { kind: "drifted", what: "somebody else has changed the rules of this node's Services" };
    } finally {
      spooled?.close();
      const cost = this.#nowMs() - began;
      const shortestMs = this.#stale > 0 ? 0 : SHORTEST_AUDIT_PAUSE_MS;
      this.#nextFullAuditMs = this.#nowMs() + Math.max(shortestMs, cost * (AUDIT_SHARE - 1));
    }
  }

  /** Carries out, and counts it if the kernel refuses. A program that is missing or stuck says nothing about what stands. */
  async #counted(plan: NatPlan): Promise<Written> {
    try {
      return await this.#carryOut(plan);
    } catch (error) {
      if (error instanceof KernelError) this.#refusals++;
      throw error;
    }
  }

  async #carryOut({ transactions }: NatPlan): Promise<Written> {
    const { nat, onDiagnostics, onApplied } = this.#options;
    let changes = 0;
    const underway = new Set<Promise<void>>();
    let failure: unknown;
    const lacking = new Set<IpFamily>();
    const lack = (family: IpFamily | undefined): void => {
      for (const one of family === undefined ? FAMILIES : [family]) lacking.add(one);
    };
    try {
      // Each is made while the kernel's programs work on those before it.
      for (const transaction of transactions) {
        if (!transaction.beside) await Promise.all(underway);
        else if (underway.size >= MOST_BESIDE) await Promise.race(underway);
        const family = familyOfProgram(transaction.program);
        // What is of both families counts on what came before; what is of one alone does not count on the other's.
        if (family === undefined && lacking.size > 0) lack(family);
        if (lacking.size === FAMILIES.length) break;
        if (family !== undefined && lacking.has(family)) continue;
        this.#writes++;
        if (!transaction.elementsOnly) {
          this.#chainWrites++;
          this.#fingerprint = undefined;
        }
        changes += transaction.operations;
        const applied = applyTransaction(transaction, this.#kernel).then(
          () => onApplied?.(transaction),
          (error: unknown) => {
            failure ??= error;
            lack(family);
          },
        );
        underway.add(applied);
        void applied.then(() => underway.delete(applied));
      }
      // By now all is compiled, if the plan came to its end; a first load is while it is carried out.
      if (lacking.size < FAMILIES.length) onDiagnostics?.();
      await Promise.all(underway);
      const [family, ...others] = lacking;
      if (family !== undefined && others.length === 0 && failure instanceof Error)
        throw new OneFamilyError(family, failure);
      if (family !== undefined) throw failure;
      // While the kernel makes its tables larger, a listing of them can lack elements.
      if (changes >= MANY_CHANGES)
        this.#nextFullAuditMs = Math.max(this.#nextFullAuditMs, this.#nowMs() + SHORTEST_AUDIT_PAUSE_MS);
    } catch (error) {
      // What is still at work must have ended before the kernel is read back.
      await Promise.allSettled(underway);
      nat.rollback();
      throw error;
    }
    nat.commit();
    return { changes };
  }
}

const INTACT: Audit = { kind: "intact" };
