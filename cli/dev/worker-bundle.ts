/**
 * The Worker as one module: in an installed package as it was built, in a checkout bundled from its sources now (a tenth
 * of a second, as wrangler does it).
 */

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export interface WorkerSource {
  readonly script: string;
  /** Of `wrangler.toml`. */
  readonly configPath: string;
}

export async function loadWorker(): Promise<WorkerSource> {
  const root = projectRoot();
  const configPath = join(root, "wrangler.toml");
  const built = join(root, "dist", "worker.js");
  const source = join(root, "worker", "index.ts");
  if (!existsSync(source)) return { script: readFileSync(built, "utf8"), configPath };
  return { script: await bundleWorker(), configPath };
}

/** The Worker of a checkout as one module; what `npm pack` puts into the package. */
export async function bundleWorker(): Promise<string> {
  const { build } = await import("esbuild");
  const result = await build({
    entryPoints: [join(projectRoot(), "worker", "index.ts")],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    platform: "neutral",
    mainFields: ["module", "main"],
    conditions: ["workerd", "worker", "browser"],
    external: ["cloudflare:*", "node:*"],
    alias: cryptoAlias(),
    logLevel: "silent",
  });
  return result.outputFiles[0]?.text ?? "";
}

/** Packages get the module in place of node's; as `[alias]` in `wrangler.toml`. */
export function cryptoAlias(): Readonly<Record<string, string>> {
  const path = join(projectRoot(), "worker", "node-crypto.ts");
  return { crypto: path, "node:crypto": path };
}

/** The folder that holds `wrangler.toml`: above this file in a checkout, above the bundle in a package. */
function projectRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "wrangler.toml"))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error("wrangler.toml is missing from this installation of fairlead");
    folder = parent;
  }
  return folder;
}
