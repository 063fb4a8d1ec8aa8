/**
 * `npm run lock`: writes package-lock.json anew after a change of package.json.
 *
 * Without `resolved` fields, so that the file names no registry and works behind any mirror; integrity hashes stay.
 * Programs for other platforms, which a mirror may not carry, are entered by what their names say; npm leaves them out
 * otherwise, and `npm ci` then refuses the file everywhere.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root, run, say } from "./process.mjs";

/** A word of a package's name → what npm calls it. */
const SYSTEMS = { android: "android", darwin: "darwin", linux: "linux", win32: "win32", windows: "win32" };
const PROCESSORS = { arm64: "arm64", x64: "x64", 64: "x64" };

const path = join(root, "package-lock.json");

if (process.argv.includes("--complete")) complete();
else {
  rmSync(path, { force: true });
  const { code } = await run(
    "npm",
    ["install", "--package-lock-only", "--no-audit", "--no-fund", "--omit-lockfile-registry-resolved=false"],
    { show: true, env: process.env },
  );
  if (code === 0) complete();
  else process.exitCode = 1;
}

function complete() {
  const lock = JSON.parse(readFileSync(path, "utf8").replaceAll(/^ *"resolved": .*\n/gm, ""));
  const packages = { ...lock.packages };
  for (const [place, { optionalDependencies = {}, dev, license, engines }] of Object.entries(lock.packages)) {
    for (const [name, version] of Object.entries(optionalDependencies)) {
      // Programs for platforms are named with their exact versions; whatever else is optional may be missing.
      if (!/^\d/.test(version)) continue;
      // As Node looks for it: beside the package, or in a folder above.
      const beside = place === "" ? "" : place.slice(0, place.lastIndexOf("node_modules/"));
      const own = `${place === "" ? "" : `${place}/`}node_modules/${name}`;
      const shared = `${beside}node_modules/${name}`;
      if ([own, shared, `node_modules/${name}`].some((key) => packages[key]?.version === version)) continue;
      const platform = platformOf(name);
      if (platform === undefined) {
        say(`${name} is missing from the lock file, and its name tells no platform`);
        continue;
      }
      const key = packages[`node_modules/${name}`] === undefined ? `node_modules/${name}` : own;
      const { os, cpu, libc } = platform;
      packages[key] = {
        version,
        cpu,
        ...(dev === undefined ? {} : { dev }),
        ...(libc === undefined ? {} : { libc }),
        ...(license === undefined ? {} : { license }),
        optional: true,
        os,
        ...(engines === undefined ? {} : { engines }),
      };
    }
  }
  const sorted = Object.entries(packages).sort(([a], [b]) => a.localeCompare(b, "en"));
  writeFileSync(path, `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, undefined, 2)}\n`);
}

/** `@biomejs/cli-linux-x64-musl` → linux, x64, musl. */
function platformOf(name) {
  const words = name.split(/[/-]/);
  const os = words.map((word) => SYSTEMS[word]).find(Boolean);
  const cpu = words.map((word) => PROCESSORS[word]).find(Boolean);
  if (os === undefined || cpu === undefined) return undefined;
  return { os: [os], cpu: [cpu], ...(words.includes("musl") ? { libc: ["musl"] } : {}) };
}
