/** npm packages, Node 24 among them: installed when the lock file is not the one they were installed from. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { oneAtATime } from "./one-at-a-time.mjs";
import { root, run, say, toolsDirectory } from "./process.mjs";

const stamp = join(root, "node_modules", ".fairlead-installed");

/** Installs the packages if need be. Throws with one sentence when npm fails. */
export async function installNpmPackages() {
  if (areInstalled(wantedStamp())) return;
  // Whoever waited here for another set-up finds everything done.
  await oneAtATime("npm-packages", async () => {
    const wanted = wantedStamp();
    if (!areInstalled(wanted)) await install(wanted);
  });
}

function wantedStamp() {
  return createHash("sha256")
    .update(readFileSync(join(root, "package.json")))
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");
}

function areInstalled(wanted) {
  return (
    existsSync(join(toolsDirectory, "node")) && existsSync(stamp) && readFileSync(stamp, "utf8") === wanted
  );
}

async function install(wanted) {
  const node = join(toolsDirectory, "node");
  say("installing the npm packages of package-lock.json (Node 24 among them; about a minute)");
  // Not `npm ci`, which deletes first what is installed. Versions come from the lock file all the same, and `--no-save`
  // keeps it as it is.
  const { code } = await run("npm", ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"], {
    show: true,
    env: process.env,
  });
  if (code !== 0) throw new Error(`npm install failed with exit code ${code}; its own words stand above.`);
  const { output } = await run(node, ["--version"]);
  if (!/^v2[4-9]\./.test(output)) {
    throw new Error(
      `the npm package "node" does not run here (${output.trim() || "no output"}); install Node 24 or newer yourself.`,
    );
  }
  writeFileSync(stamp, wanted);
}
