/**
 * One process at a time: `npm start` and `npm test` may both be the first to run in a fresh clone, and two installations
 * into one folder end in neither.
 *
 * A lock is a file with the process id of its owner, made in one step. Whoever finds it waits; one whose owner is no more
 * (it was killed) is taken away.
 */
import { createHash } from "node:crypto";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root, say } from "./process.mjs";

const LOOK_AGAIN_MILLISECONDS = 200;

/** Runs `action` while no other process runs one of the same name for this checkout. `folder` is for tests. */
export async function oneAtATime(name, action, { folder = tmpdir(), tell = say } = {}) {
  const checkout = createHash("sha256").update(root).digest("hex").slice(0, 16);
  const path = join(folder, `fairlead-${checkout}-${name}.lock`);
  for (let told = false; !take(path); ) {
    const owner = ownerOf(path);
    if (owner !== undefined && !isAlive(owner)) {
      discard(path, owner);
      continue;
    }
    if (!told && owner !== undefined)
      tell(`another set-up is at it (${name}, process ${owner}); waiting for it`);
    told ||= owner !== undefined;
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MILLISECONDS));
  }
  const release = () => rmSync(path, { force: true });
  process.on("exit", release);
  try {
    return await action();
  } finally {
    process.off("exit", release);
    release();
  }
}

/** True when the lock is ours now. */
function take(path) {
  try {
    writeFileSync(path, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    return false;
  }
}

/** The process that holds the lock; undefined when it was given back or is just being written. */
function ownerOf(path) {
  try {
    return Number(readFileSync(path, "utf8")) || undefined;
  } catch {
    return undefined;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM"; // Somebody else's.
  }
}

/** Takes the lock of a dead owner away, by a rename: of several that try only one does it. */
function discard(path, owner) {
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch {
    return; // Somebody else was quicker.
  }
  // Another process may have taken it in between: then it is put back as it was.
  if (ownerOf(aside) === owner) rmSync(aside, { force: true });
  else renameSync(aside, path);
}
