/** Which Pods of a node its rules beside those of Services are for. */

import type { Pod } from "../cluster/model.ts";

/**
 * The Pod's addresses are its own: not the node's, and not those of a Pod that has come to its end, which another one may
 * have by now. A Pod that is being deleted has them until it ends.
 */
export function hasOwnAddresses({ nodeName, hostNetwork, phase }: Pod, node: string): boolean {
  return nodeName === node && !hostNetwork && phase !== "Succeeded" && phase !== "Failed";
}
