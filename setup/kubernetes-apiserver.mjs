/**
 * The Kubernetes API server of the tests: built once from `tests/kubernetes/apiserver`, and kept outside the repository
 * by the hash of its sources. About ten minutes on two cores the first time; nothing the second time.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { root, run, say, which } from "./process.mjs";

const sources = join(root, "tests", "kubernetes", "apiserver");
const FILES = ["go.mod", "go.sum", "main.go"];

/** Where the program is, or will be once it is built. */
export function kubernetesApiServerPath() {
  const hash = createHash("sha256");
  for (const file of FILES) hash.update(readFileSync(join(sources, file)));
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return join(cache, "fairlead", `kube-apiserver-${hash.digest("hex").slice(0, 16)}`);
}

/** True when the program is there at the end. */
export async function buildKubernetesApiServer() {
  const path = kubernetesApiServerPath();
  if (existsSync(path)) return true;
  const go = which("go");
  if (go === undefined) {
    say("missing: go (1.26 or newer); without it there is no Kubernetes API server to test against");
    return false;
  }
  say("building a Kubernetes API server for the tests (about ten minutes, once)");
  mkdirSync(join(path, ".."), { recursive: true });
  const unfinished = `${path}.${process.pid}`;
  const args = ["build", "-p", "2", "-trimpath", "-ldflags", "-s -w", "-o", unfinished, "."];
  // Everything else on the machine goes first.
  const { code, output } = await run("nice", ["-n", "10", go, ...args], { cwd: sources, env: process.env });
  if (code !== 0) {
    say(`the Kubernetes API server could not be built: ${output.trim().split("\n").at(-1)}`);
    return false;
  }
  renameSync(unfinished, path);
  return true;
}
