/**
 * Which replica publishes: the seam between the control service and whatever elects (a Kubernetes Lease).
 *
 * Every term has an epoch, higher than that of any term before, and every pointer carries the epoch of its
 * writer. So a deposed leader that has not noticed yet is fenced: it meets the higher epoch and stops, and
 * readers pass its late pointer over (`supersedes` in `edge-config/pointer.ts`).
 */

export type Term =
  /** This replica leads from now on. */
  | { readonly kind: "lead"; readonly epoch: number }
  /** Another one leads, or nobody is known to. */
  | { readonly kind: "follow" };

export interface Leadership {
  /** Changes of this replica's part, from the moment of asking; it follows until told otherwise. */
  readonly terms: AsyncIterable<Term>;
}
