/**
 * Builds the crate to `wasm-nat/dist/wasm_nat.wasm`. Runs on Node 20 too: set-up calls it before Node 24 is there.
 *
 * Two ways to a compiler for wasm32-unknown-unknown, in this order: a Rust that has the target (`rustup target add`),
 * or Debian's packages, whose sources of the standard library are built along (`-Z build-std`). The build is skipped
 * when no input has changed. `node wasm-nat/build.mjs` builds or says what is missing.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { access, copyFile, mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import process, { argv, env, stderr } from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const TARGET = "wasm32-unknown-unknown";
const here = fileURLToPath(new URL(".", import.meta.url));
const dist = join(here, "dist");
/** Outlives a checkout: finished modules by the hash of their inputs. */
const cache = join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "fairlead", "wasm-nat");
const execute = promisify(execFile);

/** Debian's compiler, cargo, sources of the standard library, and linker; file → package. */
const DEBIAN = {
  "/usr/bin/rustc": "rustc-web",
  "/usr/bin/cargo": "cargo-web",
  "/usr/bin/wasm-ld-19": "lld-19",
};
/** `rust-web-src` has no program to look for. */
const DEBIAN_SOURCES = "rust-web-src";

/** Debian packages that must be installed before `buildWasm` can work; none when any way is open. */
export async function missingForWasm() {
  if ((await rustWithTarget()) !== undefined) return [];
  const missing = [];
  for (const [file, name] of Object.entries(DEBIAN)) if (!(await exists(file))) missing.push(name);
  if (!(await hasStandardLibrarySources())) missing.push(DEBIAN_SOURCES);
  return missing;
}

/**
 * Builds if needed. True when the module is there and as new as its sources.
 * @param {{ say?: (line: string) => void }} [options]
 */
export async function buildWasm({ say = () => {} } = {}) {
  const inputs = await hashOfInputs();
  const stamp = join(dist, "wasm_nat.inputs");
  const module = join(dist, "wasm_nat.wasm");
  if ((await exists(module)) && (await readFile(stamp, "utf8").catch(() => "")) === inputs) return true;
  const kept = join(cache, `${inputs}.wasm`);
  await mkdir(dist, { recursive: true });
  if (await exists(kept)) {
    await put(kept, module);
    await writeFile(stamp, inputs);
    return true;
  }
  const cargo = (await rustWithTarget()) ?? debianRust();
  say("building wasm-nat (about a minute the first time)");
  try {
    await execute(
      cargo.program,
      [
        "build",
        "--release",
        "--lib",
        "--locked",
        "--target",
        TARGET,
        "--manifest-path",
        join(here, "Cargo.toml"),
        ...cargo.args,
      ],
      { env: { ...env, ...cargo.env }, maxBuffer: 64 * 1024 * 1024 },
    );
  } catch (error) {
    say(`wasm-nat could not be built:\n${error.stderr || error.message}`);
    return false;
  }
  // Somebody saved a source meanwhile: nobody knows which of the two was built, and the cache would keep it for ever.
  if ((await hashOfInputs()) !== inputs) return buildWasm({ say });
  const built = join(cargo.output, TARGET, "release", "wasm_nat.wasm");
  await put(built, module);
  await writeFile(stamp, inputs);
  await put(built, kept).catch(() =>
    say(`${cache} cannot be written: the next checkout builds wasm-nat again`),
  );
  return true;
}

/** Renamed into place, so that a reader never sees half a module. */
async function put(from, to) {
  await mkdir(dirname(to), { recursive: true });
  const half = `${to}.${process.pid}`;
  await copyFile(from, half);
  await rename(half, to);
}

async function rustWithTarget() {
  for (const rustc of [env.RUSTC ?? "rustc", "/usr/bin/rustc"]) {
    try {
      const { stdout } = await execute(rustc, ["--print", "target-libdir", "--target", TARGET]);
      if (!(await readdir(stdout.trim())).some((name) => name.startsWith("libstd-"))) continue;
      return { program: env.CARGO ?? "cargo", args: [], env: { RUSTC: rustc }, output: join(here, "target") };
    } catch {
      // No such compiler, or not this target: the next way.
    }
  }
  return undefined;
}

function debianRust() {
  // A target directory of its own: artefacts of two compilers in one directory would be built anew at every turn.
  const output = join(here, "target", "wasm");
  return {
    program: "/usr/bin/cargo",
    args: ["-Z", "build-std=std,panic_abort", "--target-dir", output],
    env: {
      RUSTC: "/usr/bin/rustc",
      RUSTC_BOOTSTRAP: "1",
      CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: "wasm-ld-19",
    },
    output,
  };
}

async function hasStandardLibrarySources() {
  try {
    const { stdout } = await execute("/usr/bin/rustc", ["--print", "sysroot"]);
    return await exists(join(stdout.trim(), "lib", "rustlib", "src", "rust", "library", "Cargo.toml"));
  } catch {
    return false;
  }
}

/** Of everything that the module is made from. */
async function hashOfInputs() {
  const files = ["Cargo.toml", "Cargo.lock", "build.mjs"];
  for (const entry of await readdir(join(here, "src"), { recursive: true, withFileTypes: true })) {
    if (entry.isFile() && entry.name.endsWith(".rs")) {
      // Node 20 names it `path`, later ones `parentPath`.
      files.push(join(entry.parentPath ?? entry.path, entry.name).slice(here.length));
    }
  }
  const hash = createHash("sha256");
  for (const file of files.sort())
    hash
      .update(`${file}\0`)
      .update(await readFile(join(here, file)))
      .update("\0");
  return hash.digest("hex");
}

async function exists(file) {
  return access(file).then(
    () => true,
    () => false,
  );
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const missing = await missingForWasm();
  if (missing.length > 0) {
    stderr.write(
      `missing for the WASM build: ${missing.join(" ")} (Debian packages), or a Rust with the target ${TARGET}\n`,
    );
    process.exitCode = 1;
  } else if (!(await buildWasm({ say: (line) => stderr.write(`${line}\n`) }))) {
    process.exitCode = 1;
  }
}
