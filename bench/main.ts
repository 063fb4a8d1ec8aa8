/**
 * `npm run bench` runs all benchmarks, `npm run bench -- NAME…` some, where `node` stands for all `node-…` too;
 * `--rounds N` for more certainty (at least 5), `--full` for the peers that take minutes as well.
 *
 * Each prints a table and says of each goal whether it is met, and writes a JSON file with machine and versions to
 * `bench/results/`. Exit code 1 when a goal is missed.
 */

import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Bench, BenchOutcome, Goal } from "./bench.ts";

const FOLDER = import.meta.dirname;
const MIN_ROUNDS = 5;

const { values, positionals } = parseArgs({
  options: {
    rounds: { type: "string", default: String(MIN_ROUNDS) },
    full: { type: "boolean", default: false },
  },
  allowPositionals: true,
});

const known = readdirSync(FOLDER)
  .filter((name) => existsSync(join(FOLDER, name, "bench.ts")))
  .sort();
const isMeant = (name: string, wanted: string) => name === wanted || name.startsWith(`${wanted}-`);
const unknown = positionals.filter((wanted) => !known.some((name) => isMeant(name, wanted)));
if (unknown.length > 0) {
  console.error(`There is no benchmark ${unknown.join(", ")}; there are: ${known.join(", ")}.`);
  process.exit(2);
}
const rounds = Math.max(MIN_ROUNDS, Number(values.rounds) || MIN_ROUNDS);

let missed = 0;
const chosen = known.filter(
  (name) => positionals.length === 0 || positionals.some((wanted) => isMeant(name, wanted)),
);
for (const name of chosen) {
  const { bench } = (await import(join(FOLDER, name, "bench.ts"))) as { readonly bench: Bench };
  console.log(`\n${name}: ${bench.title}`);
  const outcome = await bench.run({
    rounds,
    isFull: values.full,
    note: (line) => console.error(`  … ${line}`),
  });
  console.log(formatTable(outcome.table));
  const goals = bench.goals
    .filter((goal) => values.full || !goal.needsFull)
    .map((goal) => ({ ...goal, value: outcome.measures[goal.measure], isMet: isMet(goal, outcome) }));
  for (const goal of goals) {
    if (!goal.isMet) missed++;
    console.log(
      `  ${goal.isMet ? "met   " : "MISSED"} ${goal.what}: ${format(goal.value)} (${boundText(goal)})`,
    );
  }
  for (const goal of bench.goals.filter((goal) => goal.needsFull && !values.full))
    console.log(`  -      ${goal.what} (${boundText(goal)}): measured with --full only`);
  write(name, outcome, goals);
}
process.exit(missed > 0 ? 1 : 0);

function isMet({ measure, bound }: Goal, { measures }: BenchOutcome): boolean {
  const value = measures[measure] ?? Number.NaN;
  return "atMost" in bound ? value <= bound.atMost : value >= bound.atLeast;
}

function boundText({ bound }: Goal): string {
  return "atMost" in bound ? `at most ${bound.atMost}` : `at least ${bound.atLeast}`;
}

function format(value: number | undefined): string {
  return value === undefined ? "not measured" : String(Number(value.toPrecision(3)));
}

/** Columns under each other; the first one to the left, numbers to the right. */
function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) => {
      const cells = row.map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      );
      return `  ${cells.join("  ")}`.trimEnd();
    })
    .join("\n");
}

function write(name: string, { table, measures, versions }: BenchOutcome, goals: readonly unknown[]): void {
  const folder = join(FOLDER, "results");
  mkdirSync(folder, { recursive: true });
  const at = new Date().toISOString();
  const result = {
    name,
    at,
    rounds,
    machine: {
      cpu: cpus()[0]?.model ?? "unknown",
      cores: cpus().length,
      memoryBytes: totalmem(),
      kernel: release(),
      node: process.version,
    },
    versions,
    goals,
    measures,
    table,
  };
  writeFileSync(
    join(folder, `${name}-${at.replaceAll(":", "-")}.json`),
    `${JSON.stringify(result, null, 2)}\n`,
  );
}
