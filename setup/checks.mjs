/** Checks of the text of the code: format, lint, types. */
import { join } from "node:path";
import { run, toolsDirectory } from "./process.mjs";

/** Node code; the edge Worker; the contract between them, which may name neither runtime. */
export const TYPESCRIPT_PROJECTS = [".", "worker", "tests/edge", "tests/worker", "edge-config"];

export function typecheck(project, options = {}) {
  return run(join(toolsDirectory, "tsc"), ["--noEmit", "-p", project], options);
}

export function lint(options = {}) {
  return run(join(toolsDirectory, "biome"), ["ci", "--colors=off", "--diagnostic-level=warn"], options);
}
