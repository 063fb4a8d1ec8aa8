/**
 * Which program Miniflare starts as workerd: the one of its own package, wrapped so that it ends with us
 * (`workerd-with-parent.sh`).
 *
 * Miniflare looks into `MINIFLARE_WORKERD_PATH`, at each start of workerd, those after a crash included. Whoever has set it
 * knows what he wants, and there is no `sh` on Windows.
 */

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const VARIABLE = "MINIFLARE_WORKERD_PATH";

/** Once for the process; does nothing the second time. */
export function wrapWorkerd(environment: NodeJS.ProcessEnv = process.env): void {
  if (environment[VARIABLE] !== undefined || process.platform === "win32") return;
  // Beside this file in a checkout, beside the bundle in a package.
  const wrapper = join(dirname(fileURLToPath(import.meta.url)), "workerd-with-parent.sh");
  const workerd = findWorkerd();
  if (workerd === undefined || !existsSync(wrapper)) return;
  environment.FAIRLEAD_WORKERD = workerd;
  environment[VARIABLE] = wrapper;
}

/** As Miniflare finds it. */
function findWorkerd(): string | undefined {
  try {
    const miniflare = createRequire(import.meta.url).resolve("miniflare");
    const { default: path } = createRequire(miniflare)("workerd") as { readonly default?: unknown };
    return typeof path === "string" ? path : undefined;
  } catch {
    return undefined; // Miniflare tells in its own words what is missing.
  }
}
