/**
 * The bundled command beside a real API server. The bundle leaves out what it takes for unused of Kubernetes' client
 * (`setup/bundle-command.mjs`), so that it still reads a kubeconfig and follows a cluster has to be seen there.
 */

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packCommand } from "../../setup/bundle-command.mjs";
import { ApiServer } from "./support/api-server.ts";
import { service, slice } from "./support/objects.ts";

const folder = mkdtempSync(join(tmpdir(), "fairlead-bundle-"));
let server: ApiServer;

beforeAll(async () => {
  server = await ApiServer.start();
  await server.apply(service("web"), slice("web", ["10.0.0.11"]));
  await packCommand(folder);
});

afterAll(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test("prints the rules for what the API server holds", async () => {
  const command = join(folder, "bin", "fairlead.mjs");
  const args = ["agent", "--once", "--dry-run", "--node", "n1", "--kubeconfig", server.kubeconfig];
  const { stdout } = await promisify(execFile)(process.execPath, [command, ...args]);
  expect(stdout).toMatch(/add element ip fairlead tcp-endpoints \{.*10\.0\.0\.11/);
});
