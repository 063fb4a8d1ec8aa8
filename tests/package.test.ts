/** The package that `npm pack` makes, installed into an empty folder: it needs nothing of the checkout. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "fairlead-package-"));
/** Node 24 alone, as a user has it. */
const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}` };

const npm = (...args: readonly string[]): string =>
  execFileSync("npm", [...args, "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: folder,
    env,
    encoding: "utf8",
  });
const fairlead = (...args: readonly string[]): string =>
  execFileSync(process.execPath, [join(folder, "node_modules", "fairlead", "bin", "fairlead.mjs"), ...args], {
    cwd: folder,
    env,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });

beforeAll(() => {
  execFileSync("npm", ["pack", "--loglevel=error", "--pack-destination", folder], { cwd: root, env });
  writeFileSync(join(folder, "package.json"), '{ "private": true }');
  npm("install", join(folder, "fairlead-0.1.0.tgz"), "--ignore-scripts");
}, 240_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("fairlead --version", () => {
  expect(fairlead("--version").trim()).toBe("0.1.0");
});

test("fairlead compile", () => {
  const manifest = {
    apiVersion: "networking.k8s.io/v1",
    kind: "Ingress",
    metadata: { name: "web" },
    spec: {
      rules: [
        {
          host: "shop.example.com",
          http: {
            paths: [
              { path: "/", pathType: "Prefix", backend: { service: { name: "web", port: { number: 80 } } } },
            ],
          },
        },
      ],
    },
  };
  writeFileSync(join(folder, "ingress.json"), JSON.stringify(manifest));
  const config = JSON.parse(fairlead("compile", "-f", "ingress.json")) as { readonly hosts: object };
  expect(Object.keys(config.hosts)).toEqual(["shop.example.com"]);
});

test("fairlead lint", () => {
  expect(fairlead("lint", "-f", "ingress.json")).toContain("default/web");
});
