/** `npm start`: the pods of the examples, `fairlead dev` over their manifests, and what to try. */

import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { startBackends } from "./backends.ts";
import { commandOf, TOUR } from "./tour.ts";

const root = join(import.meta.dirname, "..");

const backends = await startBackends().catch((error: unknown) => {
  process.stderr.write(`fairlead: ${error instanceof Error ? error.message : String(error)}.\n`);
  process.exit(1);
});
const dev = spawn(
  process.execPath,
  [
    join(root, "bin", "fairlead.mjs"),
    "dev",
    "-f",
    join(root, "examples", "manifests"),
    ...process.argv.slice(2),
  ],
  { stdio: ["ignore", "pipe", "inherit"] },
);
createInterface({ input: dev.stdout }).on("line", (line) => {
  process.stdout.write(`${line}\n`);
  const [, url] = /^ready (https?:\/\/\S+)$/.exec(line) ?? [];
  if (url === undefined) return;
  const stops = TOUR.map(
    (stop) => `${stop.shows === "" ? "" : `\n# ${stop.shows}\n`}${commandOf(stop, url)}\n`,
  );
  process.stdout.write(`\nIn another terminal:\n${stops.join("")}\nCtrl-C ends it.\n`);
});
dev.on("exit", async (code) => {
  await backends.close();
  process.exitCode = code ?? 1;
});
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  // From a terminal, Ctrl-C reaches both; a signal for this process alone is handed on.
  process.on(signal, () => dev.kill("SIGTERM"));
}
