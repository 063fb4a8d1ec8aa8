/** The NAT compiler as WASM: its toolchain and its build. Quick when nothing has changed. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { oneAtATime } from "./one-at-a-time.mjs";
import { root, say } from "./process.mjs";
import { installWasmToolchain } from "./system-packages.mjs";

/** True when the WASM module is there and as new as its sources. */
export async function buildWasmModule() {
  const script = join(root, "wasm-nat", "build.mjs");
  if (!existsSync(script)) return false;
  const { missingForWasm, buildWasm } = await import(pathToFileURL(script).href);
  const missing = await missingForWasm();
  if (missing.length > 0 && !(await installWasmToolchain(missing))) return false;
  return await oneAtATime("wasm", () => buildWasm({ say }));
}
