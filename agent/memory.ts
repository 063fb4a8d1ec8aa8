/**
 * Keeps the process as small as its cluster.
 *
 * Reading a large cluster for the first time takes several times the memory that keeping it does, and V8 holds on to the
 * pages for what may come. Nothing like it comes again, so once the node is programmed they are given back, at the cost
 * of one pause (about half a second at 50 000 Services, and nothing in a small cluster, where it is not done).
 *
 * After that the space for new objects is what grows: V8 doubles it under a steady stream of changes up to 115 MiB, three times
 * what 1 000 Services take. It stops at a quarter of that or less here, for more frequent collections.
 */

import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const MIB = 1024 * 1024;
/** Below, there is not enough to give back. */
const LEAST_BYTES = 200 * MIB;
/** Two halves of 8 MiB, as `--max-semi-space-size=8` would have it, which only the command line can say. */
const ENOUGH_FOR_NEW_BYTES = 16 * MIB;
/** V8's own. */
const GROWTH = 2;

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
  // The space for new objects has shrunk with the rest.
  setFlagsFromString(`--semi-space-growth-factor=${GROWTH}`);
}

/** Keeps the space for new objects from growing once it is large enough. Cheap; to be called now and then. */
export function boundNewObjects(): void {
  const space = getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space");
  if (space === undefined || space.physical_space_size < ENOUGH_FOR_NEW_BYTES) return;
  setFlagsFromString("--semi-space-growth-factor=1");
}
