/**
 * `npm run build`, and before `npm pack`: what an installed package runs, in `dist/`.
 *
 * Node strips no types under `node_modules`, so the package holds bundled JavaScript: the command with everything it
 * imports but the Worker's runtime (`miniflare`, which is a dependency), the edge Worker, the NAT compiler.
 */
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { bundleCommand } from "./bundle-command.mjs";
import { root, say } from "./process.mjs";

const dist = join(root, "dist");

const { build } = await import("esbuild");
const bundle = await bundleCommand(dist);
const { bundleWorker } = await import(pathToFileURL(join(root, "cli", "dev", "worker-bundle.ts")).href);
writeFileSync(join(dist, "worker.js"), await bundleWorker());
// Not what is shipped: only which files the Worker's bundle has.
const workerBundle = await build({
  entryPoints: [join(root, "worker", "index.ts")],
  metafile: true,
  write: false,
  bundle: true,
  format: "esm",
  conditions: ["workerd"],
  external: ["cloudflare:*", "node:*"],
});
const bundled = [bundle, workerBundle].flatMap(({ metafile }) => Object.keys(metafile.inputs));
writeFileSync(join(dist, "THIRD-PARTY-LICENSES.txt"), licencesOf(bundled));
cpSync(join(root, "cli", "dev", "workerd-with-parent.sh"), join(dist, "workerd-with-parent.sh"));
say(`built ${dist}`);

/** The licence texts of the packages whose files are in a bundle; their licences ask to travel with copies. */
function licencesOf(files) {
  const packages = new Set(
    files
      .map((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file.replaceAll(sep, "/"))?.[0])
      .filter(Boolean),
  );
  return [...packages]
    .sort()
    .map((path) => {
      const { name, version, license } = JSON.parse(readFileSync(join(root, path, "package.json"), "utf8"));
      const texts = readdirSync(join(root, path)).filter((file) =>
        /^(licen[cs]e|copying|notice)/i.test(file),
      );
      const text = texts.map((file) => readFileSync(join(root, path, file), "utf8").trim()).join("\n\n");
      return `${name} ${version} (${license})\n\n${text}\n`;
    })
    .join(`\n${"-".repeat(80)}\n\n`);
}
