#!/usr/bin/env node
/**
 * The `fairlead` command: finds a Node that is new enough and hands over to the program.
 *
 * In a checkout the program is `cli/main.ts`, run as it is by Node 24. In an installed package it is the bundle
 * `dist/fairlead.js`, because Node strips no types under `node_modules`.
 * This file must parse on the older Node that a distribution ships, so it is plain JavaScript without recent syntax.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import module from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const OLDEST_NODE = 24;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const checkoutEntry = join(root, "cli", "main.ts");
const packageEntry = join(root, "dist", "fairlead.js");
const isCheckout = existsSync(checkoutEntry);
const nodeFromNpm = join(root, "node_modules", ".bin", "node");

if (Number.parseInt(process.versions.node, 10) >= OLDEST_NODE) {
  await runHere();
} else if (existsSync(nodeFromNpm)) {
  runWith(nodeFromNpm);
} else {
  fail(
    `Node ${OLDEST_NODE} or newer is needed and this is ${process.version}` +
      (isCheckout ? "; `npm run setup` installs it into this checkout." : "."),
  );
}

async function runHere() {
  if (process.env.FAIRLEAD_RELAYED === "1") followParent();
  const entry = isCheckout ? checkoutEntry : packageEntry;
  if (isCheckout && !existsSync(join(root, "node_modules"))) {
    fail("the packages of this checkout are not installed; `npm run setup` installs them.");
    return;
  }
  // Half of a short command's time is the reading of its sources. Kept beside them and not where Node would (/tmp): what
  // others can write must not tell root what to run. Where it cannot be written, nothing is kept.
  module.enableCompileCache?.(join(root, ".cache", "compiled"));
  const { main } = await import(pathToFileURL(entry).href);
  await main(process.argv.slice(2));
}

/** Runs this file again with `node`, as if it were this process: same arguments, streams, signals and exit code. */
function runWith(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    // The fourth channel carries nothing: that it closes tells the child that this process was killed.
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, FAIRLEAD_RELAYED: "1" },
  });
  // Ctrl-C in a terminal reaches the whole process group, so the child has had its SIGINT already.
  process.on("SIGINT", () => process.stdin.isTTY || child.kill("SIGINT"));
  for (const signal of ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"]) {
    process.on(signal, () => child.kill(signal));
  }
  child.on("error", (error) => fail(`cannot start ${node}: ${error.message}.`));
  child.on("exit", (code, signal) => {
    process.exitCode = signal === null ? (code ?? 1) : 128 + constants.signals[signal];
    if (child.connected) child.disconnect();
    process.exit();
  });
}

/** Ends this process in good order when the relay that started it is gone, however it went. */
function followParent() {
  delete process.env.FAIRLEAD_RELAYED;
  if (process.channel === undefined) return;
  process.on("disconnect", () => process.kill(process.pid, "SIGTERM"));
  process.channel.unref(); // listening must not keep a finished command alive
}

function fail(sentence) {
  process.stderr.write(`fairlead: ${sentence}\n`);
  process.exitCode = 1;
}
