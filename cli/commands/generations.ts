/**
 * `fairlead generations` and `fairlead rollback`: what a control service can bring back, and bringing it back.
 */

import { type Command, InvalidArgumentError } from "commander";
import { CommandFailure, UsageError } from "../failure.ts";

interface ControlFlag {
  readonly control?: string;
  readonly json?: true;
}

interface RollbackFlags extends ControlFlag {
  readonly resume?: true;
}

interface Generations {
  readonly current?: number;
  readonly pinned?: number;
  readonly generations: readonly { readonly generation: number; readonly createdAt: string }[];
}

interface PublisherStatus {
  readonly generation?: number;
  readonly pinned?: number;
}

export function registerGenerations(program: Command): void {
  addControlOption(
    program
      .command("generations")
      .summary("list the edge configurations that can come back")
      .description(
        "Lists the generations of the edge's configuration that `fairlead rollback` can bring back.",
      ),
  )
    .option("--json", "print the answer as JSON")
    .action(runGenerations);
  addControlOption(
    program
      .command("rollback")
      .summary("bring an earlier edge configuration back")
      .description(
        "Brings an earlier generation of the edge's configuration back. Newer states wait until `fairlead rollback --resume`.",
      )
      .argument("[generation]", "the one to bring back; `fairlead generations` lists them", generation),
  )
    .option("--resume", "end a rollback: publish the newest state again")
    .option("--json", "print the answer as JSON")
    .action(runRollback);
}

function addControlOption(command: Command): Command {
  return command.option(
    "--control <url>",
    "the control service, such as http://127.0.0.1:8788 (token: FAIRLEAD_CONTROL_TOKEN)",
    process.env.FAIRLEAD_CONTROL,
  );
}

async function runGenerations(flags: ControlFlag): Promise<void> {
  const answer = await ask<Generations>("GET", "/v1/generations", flags);
  if (flags.json) return print(answer);
  for (const { generation: number, createdAt } of answer.generations) {
    const marks = [number === answer.current ? "live" : "", number === answer.pinned ? "brought back" : ""];
    process.stdout.write(`${[number, createdAt, ...marks.filter((mark) => mark !== "")].join("  ")}\n`);
  }
  if (answer.generations.length === 0) process.stdout.write("no generation was published yet\n");
}

async function runRollback(number: number | undefined, flags: RollbackFlags): Promise<void> {
  if ((number === undefined) === (flags.resume === undefined)) {
    throw new UsageError("Either a generation or --resume is expected.");
  }
  const path = number === undefined ? "/v1/generations/resume" : `/v1/generations/${number}/rollback`;
  const answer = await ask<PublisherStatus>("POST", path, flags);
  if (flags.json) return print(answer);
  process.stdout.write(
    number === undefined
      ? "the newest state is published again\n"
      : `generation ${number} is live again, as generation ${answer.generation}; newer states wait for \`fairlead rollback --resume\`\n`,
  );
}

async function ask<T>(method: string, path: string, { control }: ControlFlag): Promise<T> {
  if (control === undefined) throw new UsageError("--control URL is missing: it names the control service.");
  const target = URL.parse(path, control);
  if (target === null)
    throw new UsageError(`--control takes the URL of a control service, not ${JSON.stringify(control)}.`);
  const token = process.env.FAIRLEAD_CONTROL_TOKEN;
  const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch(target, { method, headers, redirect: "error" }).catch((error: unknown) => {
    const cause =
      error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new CommandFailure(`The control service at ${target.origin} cannot be reached: ${cause}`);
  });
  const text = await response.text();
  if (response.ok) return JSON.parse(text) as T;
  throw new CommandFailure(`The control service answered ${response.status}: ${errorIn(text)}`);
}

function errorIn(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && "error" in value) return String(value.error);
  } catch {
    // Somebody else's page; its beginning says enough.
  }
  return text.slice(0, 200);
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}

function generation(text: string): number {
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("A number from 1 is expected.");
}
