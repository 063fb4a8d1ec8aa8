/**
 * The programs of the Kubernetes tests that are written in Go, because what they run is: an API server, Helm's engine,
 * kubectl. Each is built once from `tests/kubernetes/<name>` and kept outside the repository by the hash of its sources.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { oneAtATime } from "./one-at-a-time.mjs";
import { root, run, say, which } from "./process.mjs";

const PROGRAMS = {
  apiserver: "a Kubernetes API server for the tests (about ten minutes on two cores, once)",
  "helm-template": "Helm's engine for the tests (about a minute, once)",
  kubectl: "kubectl for the tests (about a minute, once)",
};
const SOURCES = ["go.mod", "go.sum", "main.go"];

/** Where a program is, or will be once it is built. */
export function goProgramPath(name) {
  const hash = createHash("sha256");
  for (const file of SOURCES) hash.update(readFileSync(join(root, "tests", "kubernetes", name, file)));
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return join(cache, "fairlead", `${name}-${hash.digest("hex").slice(0, 16)}`);
}

/** True when all programs are there. */
export function haveGoPrograms() {
  return Object.keys(PROGRAMS).every((name) => existsSync(goProgramPath(name)));
}

/** True when all programs are there at the end; what is missing has been said otherwise. */
export async function buildKubernetesApiServer() {
  return haveGoPrograms() || (await oneAtATime("go-programs", buildMissing));
}

async function buildMissing() {
  const missing = Object.keys(PROGRAMS).filter((name) => !existsSync(goProgramPath(name)));
  if (missing.length === 0) return true;
  const go = which("go");
  if (go === undefined) {
    say("missing: go (1.26 or newer); without it there is no Kubernetes API server to test against");
    return false;
  }
  for (const name of missing) if (!(await build(go, name))) return false;
  return true;
}

async function build(go, name) {
  const path = goProgramPath(name);
  say(`building ${PROGRAMS[name]}`);
  mkdirSync(dirname(path), { recursive: true });
  // Whoever is interrupted, or builds at the same time, leaves no half program behind.
  const unfinished = `${path}.${process.pid}`;
  const args = ["build", "-p", "2", "-trimpath", "-ldflags", "-s -w", "-o", unfinished, "."];
  const cwd = join(root, "tests", "kubernetes", name);
  // Everything else on the machine goes first.
  const { code, output } = await run("nice", ["-n", "10", go, ...args], { cwd, env: process.env });
  if (code !== 0) {
    say(`${name} could not be built: ${output.trim().split("\n").at(-1)}`);
    return false;
  }
  renameSync(unfinished, path);
  return true;
}
