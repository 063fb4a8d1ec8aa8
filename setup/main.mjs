/**
 * `npm run setup`: everything that a fresh clone needs, in order. Says what it does; does nothing the second time.
 * `npm start` and `npm test` run what they need of it first.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildKubernetesApiServer } from "./go-programs.mjs";
import { installNpmPackages } from "./npm-packages.mjs";
import { root } from "./process.mjs";
import { installGateway, installNetworkTools, installRust, installTestTools } from "./system-packages.mjs";
import { buildWasmModule } from "./wasm.mjs";

/** What the edge needs: packages. */
export async function setUpEdge() {
  await installNpmPackages();
}

/** What all of Fairlead and its tests need. What could not be had has been said; the tests that need it count as skips. */
export async function setUpEverything() {
  await installNpmPackages();
  await installTestTools();
  await installGateway();
  await setUpNodeHalf();
  await buildKubernetesApiServer();
}

/** What the NAT compiler and the node agent need, where this checkout has them. */
async function setUpNodeHalf() {
  if (!existsSync(join(root, "wasm-nat"))) return;
  await installNetworkTools();
  await installRust();
  await buildWasmModule();
}

/** Runs `action` and turns an error into one sentence and exit code 1. */
export async function orFail(action) {
  try {
    await action();
  } catch (error) {
    process.stderr.write(`setup: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}

if (process.argv[1] === import.meta.filename || process.argv[1]?.endsWith("setup/main.mjs"))
  await orFail(setUpEverything);
