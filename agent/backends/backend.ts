/** What the sync loop asks of nftables, iptables or IPVS. */

import type { IpFamily } from "../../cluster/model.ts";

export type BackendName = "nftables" | "iptables" | "ipvs";

export interface Written {
  /** Elements, rules or objects that were sent to the kernel; 0: it had them all. */
  readonly changes: number;
}

/** The kernel does not hold what this family needs, and all that the other one does. */
export class OneFamilyError extends Error {
  override readonly name = "OneFamilyError";
  readonly family: IpFamily;
  /** Its sentence is ours. */
  override readonly cause: Error;

  constructor(family: IpFamily, cause: Error) {
    super(cause.message);
    this.family = family;
    this.cause = cause;
  }
}

export interface Backend {
  /**
   * Brings the kernel from what was written last to what is wanted. Rejects, and the kernel has what it had; with a
   * `OneFamilyError`, that family has.
   */
  readonly write: () => Promise<Written>;
  /**
   * Reads the kernel back and brings it to what is wanted, whatever it holds. Rejects like `write`, and what it had goes on working.
   * Called often enough it replaces what takes no changes.
   */
  readonly resync: () => Promise<Written>;
  /** Whether the kernel still holds what was written. Cheap; what is not cheap it does seldom. */
  readonly audit: () => Promise<Audit>;
}

export type Audit = { readonly kind: "intact" } | { readonly kind: "drifted"; readonly what: string };
