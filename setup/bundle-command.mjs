/**
 * The `fairlead` command with everything that it imports, as bundled JavaScript: what an installed package runs, and what
 * an emulated machine can read in time.
 */
import { cpSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { root } from "./process.mjs";

/** Packages that stay packages: they hold programs, or are needed only in a checkout. */
const EXTERNAL = ["esbuild", "miniflare"];

/**
 * Kubernetes' client declares every type of its API in a module of its own, and does not say that importing one does nothing
 * else. We use its kubeconfig alone: without the rest a process that follows a cluster has a third less to read and to keep.
 */
const WITHOUT_UNUSED_MODELS = {
  name: "without-unused-models",
  setup(build) {
    const seen = Symbol("seen");
    build.onResolve({ filter: /./ }, async ({ path, kind, pluginData, ...from }) => {
      if (kind === "entry-point" || pluginData === seen) return undefined;
      const { importer, resolveDir } = from;
      const resolved = await build.resolve(path, { importer, resolveDir, kind, pluginData: seen });
      return resolved.path.includes("/node_modules/@kubernetes/client-node/")
        ? { ...resolved, sideEffects: false }
        : undefined;
    });
  },
};

/** Writes the command and the NAT compiler, if that has been built, to `dist`, an empty folder. Returns esbuild's result. */
export async function bundleCommand(dist) {
  const { build } = await import("esbuild");
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist, { recursive: true });
  const bundle = await build({
    metafile: true,
    entryPoints: { fairlead: join(root, "cli", "main.ts") },
    outdir: dist,
    bundle: true,
    // Commands load what they need when they run: each heavy part is a file of its own.
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node24",
    external: EXTERNAL,
    plugins: [WITHOUT_UNUSED_MODELS],
    // Packages of CommonJS ask for Node's modules with require.
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
    logLevel: "warning",
  });
  const wasm = join(root, "wasm-nat", "dist", "wasm_nat.wasm");
  if (existsSync(wasm)) cpSync(wasm, join(dist, "wasm_nat.wasm"));
  return bundle;
}

/** A folder as `npm install` would leave it, but for the edge Worker: its `bin/fairlead.mjs` runs without this checkout's sources. */
export async function packCommand(folder) {
  await bundleCommand(join(folder, "dist"));
  for (const path of ["package.json", join("bin", "fairlead.mjs")])
    cpSync(join(root, path), join(folder, path));
}
