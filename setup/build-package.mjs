/**
 * `npm run build`, and before `npm pack`: what an installed package runs, in `dist/`.
 *
 * Node strips no types under `node_modules`, so the package holds bundled JavaScript: the command with everything it
 * imports but the Worker's runtime (`miniflare`, which is a dependency), the edge Worker, the NAT compiler.
 */
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root, say } from "./process.mjs";

const dist = join(root, "dist");

/** Packages that stay packages: they hold programs, or are needed only in a checkout. */
const EXTERNAL = ["esbuild", "miniflare"];

const { build } = await import("esbuild");
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);
await build({
  entryPoints: { fairlead: join(root, "cli", "main.ts") },
  outdir: dist,
  bundle: true,
  // Commands load what they need when they run: each heavy part is a file of its own.
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node24",
  external: EXTERNAL,
  // Packages of CommonJS ask for Node's modules with require.
  banner: {
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
  logLevel: "warning",
});
const { bundleWorker } = await import(pathToFileURL(join(root, "cli", "dev", "worker-bundle.ts")).href);
writeFileSync(join(dist, "worker.js"), await bundleWorker());
const wasm = join(root, "wasm-nat", "dist", "wasm_nat.wasm");
if (existsSync(wasm)) cpSync(wasm, join(dist, "wasm_nat.wasm"));
say(`built ${dist}`);
