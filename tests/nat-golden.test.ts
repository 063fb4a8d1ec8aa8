/**
 * Manifests in, rules out: every `nat-golden/<case>.in.yaml`, for each backend.
 *
 * `<case>.nftables`, `<case>.iptables` and `<case>.ipvs` are what `fairlead nat render` prints with the flags of the case's
 * first line, `<case>.diagnostics.txt` what is told about the manifests (absent: nothing). The objects come in any order: a
 * second, reversed reading must give the same bytes. `UPDATE_GOLDEN=1 npx vitest run tests/nat-golden.test.ts` writes the files;
 * read the difference before you commit it.
 */

import { existsSync, globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { describe, expect, test } from "vitest";
import { createClusterCompiler } from "../agent/compiler.ts";
import { printTransactions } from "../agent/kernel/transactions.ts";
import { addNatOptions, type NatFlags, natSettings } from "../cli/nat-input.ts";
import { buildClusterModel } from "../cluster/build.ts";
import { type Diagnostic, formatDiagnostic } from "../cluster/diagnostic.ts";
import { readManifestText } from "../cluster/files.ts";
import type { IpFamily } from "../cluster/model.ts";

const folder = join(import.meta.dirname, "nat-golden");
const inputs = globSync("*.in.yaml", { cwd: folder }).sort();
const update = process.env.UPDATE_GOLDEN === "1";
const BACKENDS = ["nftables", "iptables", "ipvs"] as const;
type Backend = (typeof BACKENDS)[number];

describe("rules of a node", () => {
  test("there are cases, and no file is left of one that is gone", () => {
    expect(inputs.length).toBeGreaterThan(0);
    const wanted = inputs.flatMap((input) => {
      const name = input.replace(/\.in\.yaml$/, "");
      return [input, `${name}.diagnostics.txt`, ...BACKENDS.map((backend) => `${name}.${backend}`)];
    });
    expect(globSync("*", { cwd: folder }).filter((file) => !wanted.includes(file))).toEqual([]);
  });

  describe.each(inputs)("%s", (input) => {
    const text = readFileSync(join(folder, input), "utf8");
    const base = join(folder, input.replace(/\.in\.yaml$/, ""));

    test.each(BACKENDS)("%s", async (backend) => {
      const { rules } = await render(text, input, backend, (objects) => objects);
      agree(`${base}.${backend}`, rules);
      const reversed = await render(text, input, backend, (objects) => objects.toReversed());
      expect(reversed.rules).toBe(rules);
    });

    test("diagnostics", async () => {
      const told = await Promise.all(BACKENDS.map((backend) => render(text, input, backend, (all) => all)));
      const lines = BACKENDS.flatMap((backend, index) =>
        (told[index]?.diagnostics ?? []).map((one) => `${backend}: ${formatDiagnostic(one)}\n`),
      );
      agree(`${base}.diagnostics.txt`, lines.join(""));
    });
  });
});

type Objects = ReturnType<typeof readManifestText>["objects"];

async function render(
  text: string,
  input: string,
  backend: Backend,
  order: (objects: Objects) => Objects,
): Promise<{ readonly rules: string; readonly diagnostics: readonly Diagnostic[] }> {
  const [, line = ""] = /^# fairlead nat render (.*)/.exec(text) ?? [];
  const words = line.trim().split(/\s+/);
  const family = words.includes("--family") ? words.splice(words.indexOf("--family"), 2)[1] : undefined;
  const command = addNatOptions(new Command()).exitOverride();
  command.parse([...words, "--backend", backend], { from: "user" });
  const families: readonly IpFamily[] = family === "ipv4" ? ["IPv4"] : ["IPv4", "IPv6"];
  const compiler = await createClusterCompiler(natSettings(command.opts<NatFlags>()), families);
  const read = readManifestText(text, input);
  const built = buildClusterModel(order(read.objects));
  compiler.note(built.model);
  compiler.handOver();
  return {
    rules: printTransactions(compiler.nat.render()),
    diagnostics: [...read.diagnostics, ...built.diagnostics, ...compiler.diagnostics()],
  };
}

/** An empty text stands for a file that is not there. */
function agree(path: string, got: string): void {
  if (update) {
    if (got === "") rmSync(path, { force: true });
    else writeFileSync(path, got);
  }
  expect(got).toBe(existsSync(path) ? readFileSync(path, "utf8") : "");
}
