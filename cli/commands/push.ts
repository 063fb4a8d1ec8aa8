/**
 * `fairlead push -f PATH... --control URL`: sends a cluster's whole state to a control service.
 *
 * In: manifests as they stand, or `kubectl get … -o json` on standard input with `-f -`. Out: what the service
 * says about them. The files are sent as they are: what they mean is decided by the service alone.
 */

import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { type Command, InvalidArgumentError } from "commander";
import type { Diagnostic } from "../../cluster/diagnostic.ts";
import { formatDiagnostic } from "../../cluster/diagnostic.ts";
import { CommandFailure, EXIT_FAILURE, UsageError } from "../failure.ts";
import { addFileOption } from "../manifest-input.ts";

/** One second apart: longer than it takes to elect another leader. */
const MAX_ATTEMPTS = 30;

interface PushFlags {
  readonly file?: readonly string[];
  readonly control?: string;
  readonly cluster: string;
  readonly wait: boolean;
  readonly json?: true;
}

interface PushAnswer {
  readonly error?: string;
  readonly diagnostics?: readonly Diagnostic[];
  readonly objects?: Readonly<Record<string, number>>;
  readonly published?: boolean;
  readonly generation?: number;
  readonly reason?: string;
}

export function registerPush(program: Command): void {
  const command = program
    .command("push")
    .summary("send a cluster's state to a control service")
    .description(
      "Replaces the state of a cluster at a control service (token: FAIRLEAD_PUSH_TOKEN or FAIRLEAD_CONTROL_TOKEN).",
    )
    .argument("[paths...]", "more manifests");
  addFileOption(command)
    .option(
      "--control <url>",
      "the control service, such as http://127.0.0.1:8788",
      process.env.FAIRLEAD_CONTROL,
    )
    .option("--cluster <name>", "the cluster whose state it is", clusterName, "default")
    .option("--no-wait", "do not wait until the edge has it")
    .option("--json", "print the answer as JSON")
    .action(runPush);
}

async function runPush(morePaths: readonly string[], flags: PushFlags): Promise<void> {
  const paths = [...(flags.file ?? []), ...morePaths];
  if (paths.length === 0)
    throw new UsageError("-f PATH is missing: it names the manifests to send, or - for standard input.");
  if (flags.control === undefined)
    throw new UsageError("--control URL is missing: it names the control service.");
  const target = URL.parse(`/v1/clusters/${flags.cluster}/state`, flags.control);
  if (target === null)
    throw new UsageError(
      `--control takes the URL of a control service, not ${JSON.stringify(flags.control)}.`,
    );
  if (flags.wait) target.searchParams.set("wait", "true");

  const state = await readState(paths);
  let response = await send(target, state);
  // Of two replicas one leads; the Service in front of them picks at random.
  for (let attempt = 1; response.status === 503 && attempt < MAX_ATTEMPTS; attempt++) {
    await response.body?.cancel();
    await delay(1_000);
    response = await send(target, state);
  }
  const answer = await readAnswer(response);
  if (flags.json) process.stdout.write(`${JSON.stringify(answer, undefined, 2)}\n`);
  process.stderr.write(
    (answer.diagnostics ?? []).map((diagnostic) => `${formatDiagnostic(diagnostic)}\n`).join(""),
  );
  if (!response.ok)
    throw new CommandFailure(
      `The control service answered ${response.status}: ${answer.error ?? response.statusText}`,
    );
  if (!flags.json) process.stdout.write(`${sentence(flags.cluster, answer)}\n`);
  if (answer.diagnostics?.some(({ severity }) => severity === "error")) process.exitCode = EXIT_FAILURE;
}

function sentence(cluster: string, { objects = {}, published, generation, reason }: PushAnswer): string {
  const counts = ["ingresses", "services", "endpoints"]
    .map((kind) => `${objects[kind] ?? 0} ${kind}`)
    .join(", ");
  const state = published
    ? `live as generation ${generation}`
    : `taken${reason === undefined ? ", not live yet" : `; ${reason}`}`;
  return `${cluster}: ${counts}; ${state}`;
}

/** All manifests as one stream of documents. JSON is YAML too, so any mix is one text. */
async function readState(paths: readonly string[]): Promise<string> {
  const { findManifestFiles } = await import("../../cluster/manifest-files.ts");
  const files = paths.filter((path) => path !== "-");
  const texts: string[] = [];
  if (files.length > 0) {
    const found = await findManifestFiles(files);
    const [problem] = found.diagnostics.filter(({ severity }) => severity === "error");
    // A file that is missing here would be taken for deleted there.
    if (problem !== undefined) throw new CommandFailure(formatDiagnostic(problem));
    for (const { path } of found.files) texts.push(await readFile(path, "utf8"));
  }
  if (paths.includes("-")) texts.push(await readAll(process.stdin));
  return texts.length === 1 ? (texts[0] ?? "") : texts.join("\n---\n");
}

async function send(target: URL, body: string): Promise<Response> {
  const token = process.env.FAIRLEAD_PUSH_TOKEN || process.env.FAIRLEAD_CONTROL_TOKEN;
  const headers: Record<string, string> = { "content-type": "application/yaml" };
  if (token) headers.authorization = `Bearer ${token}`;
  try {
    return await fetch(target, { method: "PUT", headers, body, redirect: "error" });
  } catch (error) {
    const cause =
      error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new CommandFailure(`The control service at ${target.origin} cannot be reached: ${cause}`);
  }
}

async function readAnswer(response: Response): Promise<PushAnswer> {
  const text = await response.text();
  try {
    return JSON.parse(text) as PushAnswer;
  } catch {
    return { error: text.slice(0, 300) };
  }
}

function clusterName(text: string): string {
  if (/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text)) return text;
  throw new InvalidArgumentError("A DNS label is expected, such as eu-1.");
}
