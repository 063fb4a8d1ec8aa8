/**
 * Running other programs, for the set-up scripts: they run on the Node that the system has, before any package
 * is installed, so they are plain JavaScript without dependencies.
 */
import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The checkout. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The directory of Node 24 and of every tool that npm installs. */
export const toolsDirectory = join(root, "node_modules", ".bin");

/** One line that says what happens now. */
export function say(sentence) {
  process.stdout.write(`setup: ${sentence}\n`);
}

/** The environment in which `node` is Node 24, and programs of the system's administration are found by others, too. */
export function environment(extra = {}) {
  const path = [toolsDirectory, process.env.PATH ?? "", "/usr/sbin", "/sbin"].join(delimiter);
  return { ...process.env, PATH: path, ...extra };
}

/**
 * Runs a program to its end.
 *
 * `show`: its output goes to ours; otherwise it is returned. `seconds`: it is ended when it takes longer.
 * Never rejects: a program that cannot be started has code 127.
 */
export function run(program, args, { show = false, cwd = root, env = environment(), seconds, input } = {}) {
  return new Promise((resolve) => {
    const stdio = [
      input === undefined ? "ignore" : "pipe",
      show ? "inherit" : "pipe",
      show ? "inherit" : "pipe",
    ];
    const child = spawn(program, args, { cwd, env, stdio, detached: seconds !== undefined });
    let output = "";
    let timedOut = false;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8");
      stream?.on("data", (text) => {
        output += text;
      });
    }
    if (input !== undefined) child.stdin.end(input);
    const timer =
      seconds === undefined
        ? undefined
        : setTimeout(() => {
            timedOut = true;
            // The whole group: a test runner has children of its own.
            try {
              process.kill(-child.pid, "SIGKILL");
            } catch {
              // It ended at this moment.
            }
          }, seconds * 1000);
    child.on("error", (error) => {
      clearTimeout(timer);
      resolve({ code: 127, output: `${error.message}\n`, timedOut });
    });
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 1, output, timedOut });
    });
  });
}

/** The path of a program, looked up as a shell does; undefined when there is none. Looks into sbin too, where iptables is. */
export function which(program) {
  for (const directory of [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"]) {
    const path = join(directory, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not here.
    }
  }
  return undefined;
}

export function isRoot() {
  return process.getuid?.() === 0;
}
