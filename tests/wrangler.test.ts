/** `wrangler.toml` is complete: wrangler itself bundles the Worker and finds every binding, for both environments. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "..");

test.each([
  ["", ["SHARDS", "POINTER", "LIMITER", "ORIGIN_TRANSPORT"]],
  ["production", ["SHARDS", "POINTER", "LIMITER", "VPC", "GATEWAY_URL"]],
])(
  "wrangler deploy --dry-run --env=%s",
  (environment, bindings) => {
    const folder = mkdtempSync(join(tmpdir(), "fairlead-wrangler-"));
    try {
      const output = execFileSync(
        process.execPath,
        [
          join(root, "node_modules", "wrangler", "bin", "wrangler.js"),
          ...["deploy", "--dry-run", `--env=${environment}`, "--outdir", folder],
        ],
        {
          cwd: root,
          encoding: "utf8",
          env: { ...process.env, CI: "1", NO_COLOR: "1", WRANGLER_SEND_METRICS: "false" },
        },
      );
      for (const binding of bindings) expect(output).toContain(`env.${binding}`);
      expect(readdirSync(folder)).toContain("index.js");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
  60_000,
);
