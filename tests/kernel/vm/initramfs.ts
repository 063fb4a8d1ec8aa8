/**
 * The initramfs of the virtual machine: busybox, the modules that lead to the host's file system, and `init.sh`.
 *
 * In: the folder of an unpacked kernel and a static busybox. Out: a cpio archive in the "newc" format (Linux's
 * `Documentation/driver-api/early-userspace/buffer-format.rst`), uncompressed: it is read once, from memory.
 */
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";

/** What `init.sh` needs before it has a file system; everything else is loaded from there. */
const FIRST_MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

const DIRECTORY = 0o040755;
const FILE = 0o100755;

export function initramfs(modulesFolder: string, busybox: string): Buffer {
  const modules = withDependencies(FIRST_MODULES, readFileSync(join(modulesFolder, "modules.dep"), "utf8"));
  const names = modules.map((path) => `modules/${basename(path)}`);
  return Buffer.concat([
    ...["bin", "dev", "proc", "sys", "host", "writes", "merged", "modules"].map((name) =>
      entry(name, DIRECTORY),
    ),
    entry("bin/busybox", FILE, readFileSync(busybox)),
    entry("init", FILE, readFileSync(join(import.meta.dirname, "init.sh"))),
    entry("modules/order", FILE, Buffer.from(names.map((name) => `/${name}\n`).join(""))),
    ...modules.map((path, index) => entry(names[index] ?? "", FILE, readFileSync(join(modulesFolder, path)))),
    entry("TRAILER!!!", 0),
  ]);
}

/** Paths of the modules in the order in which they can be loaded, from the lines `path: paths that it needs` of `modules.dep`. */
export function withDependencies(names: readonly string[], modulesDep: string): readonly string[] {
  const needs = new Map<string, readonly string[]>();
  const paths = new Map<string, string>();
  for (const line of modulesDep.split("\n")) {
    const [path = "", rest = ""] = line.split(":");
    if (path === "") continue;
    needs.set(
      path,
      rest.split(" ").filter((word) => word !== ""),
    );
    paths.set(basename(path).replace(/\.ko(\.\w+)?$/, ""), path);
  }
  const ordered = new Set<string>();
  for (const name of names) {
    const path = paths.get(name);
    if (path === undefined) throw new Error(`the kernel has no module ${name}`);
    // depmod lists what a module needs, direct or not, the deepest last.
    for (const needed of [...(needs.get(path) ?? [])].reverse()) ordered.add(needed);
    ordered.add(path);
  }
  return [...ordered];
}

let inode = 0;

function entry(name: string, mode: number, content: Buffer = Buffer.alloc(0)): Buffer {
  inode += 1;
  const nameSize = Buffer.byteLength(name) + 1;
  // inode, mode, uid, gid, links, mtime, size, 4 device numbers, size of the name, checksum
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, nameSize, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}${name}\0`;
  return Buffer.concat([padded(Buffer.from(header)), padded(content)]);
}

function padded(part: Buffer): Buffer {
  return Buffer.concat([part, Buffer.alloc((4 - (part.length % 4)) % 4)]);
}
