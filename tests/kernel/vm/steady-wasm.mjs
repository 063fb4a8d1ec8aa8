/**
 * Loaded before every Node program of the machine. V8 loses track of its code now and then when WASM is optimised beside its
 * run: in an emulated machine one start of twenty ends with "Check failed: it->second.Size() > offset" or a segmentation
 * fault (Node 24.21, with and without protection keys; nodejs/node#64500 tells of its kin on real processors, where it was
 * not once seen here). So WASM is compiled once, by the baseline compiler, and that is all.
 */
import { setFlagsFromString } from "node:v8";

// What the first implies on a command line has to be said here.
for (const flag of ["--liftoff-only", "--no-wasm-tier-up", "--no-wasm-dynamic-tiering"])
  setFlagsFromString(flag);
