/**
 * What programs open each time they start, and `ipset` for each line that it reads: kept in the machine's memory.
 *
 * In: names of programs. Out: paths of files and links. The host's file system is asked over a wire (9p) for every file that
 * is opened, cached or not, and whoever answers has to be scheduled first: on a busy host a second for each program, and a
 * minute for a thousand elements of a set, whose protocols are looked up in /etc/protocols one by one.
 */
import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, readdirSync, readlinkSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

const FOLDERS = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
const FILES = [
  ...[
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/protocols",
    "/etc/services",
    "/etc/hosts",
  ],
  ...["/etc/xtables.conf", "/etc/ethertypes", "/etc/localtime"],
];
/** A module for each match and target of iptables. */
const XTABLES = "/usr/lib/x86_64-linux-gnu/xtables";

export function oftenReadBy(programs: readonly string[]): readonly string[] {
  const found = new Set<string>();
  const add = (path: string): void => {
    if (!existsSync(path) || found.has(path)) return;
    found.add(path);
    if (lstatSync(path).isSymbolicLink()) add(resolve(dirname(path), readlinkSync(path)));
  };
  for (const program of programs) {
    const path = FOLDERS.map((folder) => join(folder, program)).find(existsSync);
    if (path === undefined) continue;
    add(path);
    for (const library of librariesOf(path)) add(library);
  }
  for (const file of FILES) add(file);
  if (existsSync(XTABLES)) for (const name of readdirSync(XTABLES)) add(join(XTABLES, name));
  return [...found];
}

function librariesOf(program: string): readonly string[] {
  try {
    const listed = execFileSync("ldd", [program], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    return [...listed.matchAll(/(\/\S+) \(0x/g)].flatMap(([, path]) => path ?? []);
  } catch {
    // A script, or a program that needs none.
    return [];
  }
}
