/**
 * Debian's own kernel, for tests of what the running kernel lacks (IPVS): fetched and unpacked, never installed, so
 * that no boot loader hears of it.
 *
 * Out: a folder outside the repository, by the kernel's version, with `vmlinuz`, `modules` (what a virtual machine needs to
 * reach the host's file system, and everything of the network) and a static `busybox`.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { run, say, which } from "./process.mjs";

/** Folders of `lib/modules/VERSION/kernel` that are kept; the others are 300 MB of drivers. */
const KEPT = ["crypto", "drivers/char", "drivers/net", "drivers/virtio", "fs", "lib", "net"];

/** Debian's dynamic busybox would be replaced if this one was installed; it is only unpacked, too. */
const BUSYBOX_PACKAGE = "busybox-static";

/** Where unpacked kernels are. */
function kernelsFolder() {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return join(cache, "fairlead", "debian-kernel");
}

/** The newest kernel that was unpacked here, as its folder; undefined if there is none. */
export function debianKernelPath() {
  const folder = kernelsFolder();
  if (!existsSync(folder)) return undefined;
  const versions = readdirSync(folder).filter((name) => !name.startsWith("."));
  versions.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const newest = versions.at(-1);
  return newest === undefined ? undefined : join(folder, newest);
}

/** Whether the kernel that runs here has IPVS itself, as a module or built in. */
export async function runningKernelHasIpvs() {
  if (existsSync("/proc/net/ip_vs")) return true;
  const modprobe = which("modprobe");
  return modprobe !== undefined && (await run(modprobe, ["--dry-run", "--quiet", "ip_vs"])).code === 0;
}

/** True when a kernel is there at the end; what is missing has been said otherwise. */
export async function fetchDebianKernel() {
  if (debianKernelPath() !== undefined) return true;
  if (which("apt-get") === undefined || which("dpkg-deb") === undefined || which("depmod") === undefined) {
    say("missing: a kernel with IPVS; where there is no apt-get, dpkg-deb and depmod, its tests cannot run");
    return false;
  }
  const name = await kernelPackage();
  if (name === undefined) {
    say("missing: a kernel with IPVS; apt-cache knows no linux-image-amd64");
    return false;
  }
  say(`fetching ${name} (IPVS is tested in a virtual machine with it; it is not installed)`);
  const folder = kernelsFolder();
  mkdirSync(folder, { recursive: true });
  // Whoever is interrupted leaves no half kernel behind.
  const unfinished = mkdtempSync(join(folder, ".unfinished-"));
  try {
    const packages = join(unfinished, "packages");
    mkdirSync(packages);
    await must("apt-get", ["-qq", "download", name, BUSYBOX_PACKAGE], packages);
    const version = name.replace(/^linux-image-/, "");
    const kept = KEPT.map((part) => `./lib/modules/*/kernel/${part}`);
    await unpack(packages, name, ["./boot/vmlinuz-*", "./lib/modules/*/modules.*", ...kept]);
    await unpack(packages, BUSYBOX_PACKAGE, ["*/bin/busybox"]);
    await must("depmod", ["-b", packages, version], packages);
    const busybox = ["usr/bin/busybox", "bin/busybox"].find((path) => existsSync(join(packages, path)));
    const taken = { vmlinuz: `boot/vmlinuz-${version}`, modules: `lib/modules/${version}`, busybox };
    for (const [to, from] of Object.entries(taken)) renameSync(join(packages, from), join(unfinished, to));
    rmSync(packages, { recursive: true });
    renameSync(unfinished, join(folder, version));
    return true;
  } catch (error) {
    say(`${name} could not be fetched: ${error.message}`);
    return false;
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}

/** The package behind `linux-image-amd64`, which holds nothing itself. */
async function kernelPackage() {
  const depends = async () => {
    const { output } = await run("apt-cache", ["depends", "linux-image-amd64"]);
    return /Depends: (linux-image-\S+)/.exec(output)?.[1];
  };
  const name = await depends();
  if (name !== undefined) return name;
  await run("apt-get", ["-qq", "update"]);
  return depends();
}

async function unpack(folder, name, wanted) {
  const archive = readdirSync(folder).find((file) => file.startsWith(`${name}_`));
  if (archive === undefined) throw new Error(`apt-get download ${name} left nothing`);
  const patterns = wanted.map((pattern) => `'${pattern}'`).join(" ");
  const line = `dpkg-deb --fsys-tarfile '${archive}' | tar -x --wildcards ${patterns}`;
  await must("sh", ["-c", line], folder);
}

async function must(program, args, cwd) {
  const { code, output } = await run(program, args, { cwd, env: process.env });
  if (code !== 0) throw new Error(output.trim().split("\n").at(-1) || `${program} ended with ${code}`);
}
