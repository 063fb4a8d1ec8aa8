/**
 * Gives memory back that only the start needed.
 *
 * Reading a large cluster for the first time takes several times the memory that keeping it does, and V8 holds on to the
 * pages for what may come. Nothing like it comes again, so once the node is programmed they are given back, at the cost
 * of one pause (about half a second at 50 000 Services, and nothing in a small cluster, where it is not done).
 */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Below, there is not enough to give back. */
const LEAST_BYTES = 200 * 1024 * 1024;

type CollectGarbage = (how: {
  readonly type: "major";
  readonly execution: "sync";
  readonly flavor: "last-resort";
}) => void;

export function releaseStartMemory(): void {
  if (process.memoryUsage.rss() < LEAST_BYTES) return;
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as CollectGarbage;
  setFlagsFromString("--no-expose-gc");
  // Of the kinds of collection only this one empties the pool of free pages.
  collect({ type: "major", execution: "sync", flavor: "last-resort" });
}
