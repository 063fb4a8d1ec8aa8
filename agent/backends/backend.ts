/** What the sync loop asks of nftables, iptables or IPVS. */

export type BackendName = "nftables" | "iptables" | "ipvs";

export interface Written {
  /** Elements, rules or objects that were sent to the kernel; 0: it had them all. */
  readonly changes: number;
}

export interface Backend {
  /** Brings the kernel from what was written last to what is wanted. Rejects, and the kernel has what it had. */
  readonly write: () => Promise<Written>;
  /**
   * Reads the kernel back and brings it to what is wanted, whatever it holds. Rejects, and what it had goes on working.
   * Called often enough it replaces what takes no changes.
   */
  readonly resync: () => Promise<Written>;
  /** Whether the kernel still holds what was written. Cheap; what is not cheap it does seldom. */
  readonly audit: () => Promise<Audit>;
}

export type Audit = { readonly kind: "intact" } | { readonly kind: "drifted"; readonly what: string };
