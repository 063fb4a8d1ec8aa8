/**
 * Manifests in, edge configuration out: every `<feature>/<case>.in.yaml` of this folder.
 *
 * `<case>.edge.json` is what `fairlead compile` prints, `<case>.diagnostics.txt` what it says on stderr (absent: it
 * says nothing). `UPDATE_GOLDEN=1 npx vitest run tests/golden` writes both; read the difference before you commit it.
 * A first line `# fairlead compile --compat nginx` gives a case its options.
 */

import { existsSync, globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { describe, expect, test } from "vitest";
import { addCompilerOptions, type CompilerFlags, compileOptions } from "../../cli/manifest-input.ts";
import { buildClusterModel } from "../../cluster/build.ts";
import { formatDiagnostic } from "../../cluster/diagnostic.ts";
import { readManifestText } from "../../cluster/files.ts";
import { compile } from "../../control/compile/compile.ts";
import type { CompileOptions } from "../../control/compile/options.ts";
import { printConfig } from "../../control/compile/print.ts";
import { sortDiagnostics } from "../../control/compile/told.ts";

const folder = import.meta.dirname;
const inputs = globSync("*/*.in.yaml", { cwd: folder }).sort();
const update = process.env.UPDATE_GOLDEN === "1";

describe("golden", () => {
  test("there are cases, and no file is left of one that is gone", () => {
    expect(inputs.length).toBeGreaterThan(0);
    const cases = new Set(inputs.map((input) => input.replace(/\.in\.yaml$/, "")));
    const outputs = globSync("*/*.{edge.json,diagnostics.txt}", { cwd: folder });
    expect(
      outputs.filter((output) => !cases.has(output.replace(/\.(edge\.json|diagnostics\.txt)$/, ""))),
    ).toEqual([]);
  });

  test.each(inputs)("%s", (input) => {
    const text = readFileSync(join(folder, input), "utf8");
    const read = readManifestText(text, input);
    const built = buildClusterModel(read.objects);
    const { config, diagnostics } = compile(built.model, optionsOf(text));
    const told = sortDiagnostics([...read.diagnostics, ...built.diagnostics, ...diagnostics]);
    const base = join(folder, input.replace(/\.in\.yaml$/, ""));
    agree(`${base}.edge.json`, printConfig(config));
    agree(`${base}.diagnostics.txt`, told.map((diagnostic) => `${formatDiagnostic(diagnostic)}\n`).join(""));
  });
});

function optionsOf(text: string): CompileOptions {
  const [, line = ""] = /^# fairlead compile(.*)/.exec(text) ?? [];
  const command = addCompilerOptions(new Command()).exitOverride();
  command.parse(line.trim().split(/\s+/).filter(Boolean), { from: "user" });
  return compileOptions(command.opts<CompilerFlags>());
}

/** An empty text stands for a file that is not there. */
function agree(path: string, got: string): void {
  if (update) {
    if (got === "") rmSync(path, { force: true });
    else writeFileSync(path, got);
  }
  expect(existsSync(path) ? readFileSync(path, "utf8") : "").toBe(got);
}
