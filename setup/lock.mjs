/**
 * `npm run lock`: writes package-lock.json anew after a change of package.json.
 *
 * Without `resolved` fields, so that the file names no registry and works behind any mirror; integrity hashes stay.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root, run } from "./process.mjs";

const path = join(root, "package-lock.json");
rmSync(path, { force: true });
const { code } = await run(
  "npm",
  ["install", "--package-lock-only", "--no-audit", "--no-fund", "--omit-lockfile-registry-resolved=false"],
  { show: true, env: process.env },
);
if (code === 0) writeFileSync(path, readFileSync(path, "utf8").replaceAll(/^ *"resolved": .*\n/gm, ""));
else process.exitCode = 1;
