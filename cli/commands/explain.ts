/**
 * `fairlead explain -f PATH... URL`: which host, route, filters and endpoints a request would meet, and why.
 *
 * From manifests, or with `--control URL` from a running control service. Readable text, or JSON with `--json`.
 */

import { type Command, InvalidArgumentError } from "commander";
import { formatDiagnostic } from "../../cluster/diagnostic.ts";
import type { ExplainRequest, Explanation } from "../../control/explain.ts";
import { CommandFailure, UsageError } from "../failure.ts";
import {
  addCompilerOptions,
  addFileOption,
  compileOptions,
  type FileFlags,
  readCluster,
} from "../manifest-input.ts";

interface Flags extends FileFlags {
  readonly method: string;
  readonly header: readonly (readonly [string, string])[];
  readonly control?: string;
  readonly json?: true;
}

export function registerExplain(program: Command): void {
  const command = program
    .command("explain")
    .description("Show which host, route, filters and endpoints a request would meet, and why.")
    .usage("-f <path>... <url> [options]")
    .argument("<url...>", "the request's URL; http:// may be left out");
  addCompilerOptions(addFileOption(command))
    .option("-X, --method <method>", "the request's method", "GET")
    .option("-H, --header <'Name: value'>", "a header of the request; may be repeated", collectHeader, [])
    .option(
      "--control <url>",
      "ask a running control service instead of files (token: FAIRLEAD_CONTROL_TOKEN)",
    )
    .option("--json", "print the explanation as JSON")
    .action(runExplain);
}

function collectHeader(text: string, before: Flags["header"]): Flags["header"] {
  const [, name, value] = /^([^:\s]+):\s*(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined)
    throw new InvalidArgumentError("A header is written as 'Name: value'.");
  return [...before, [name, value]];
}

async function runExplain(operands: readonly string[], flags: Flags): Promise<void> {
  const { url, paths } = tellUrlFromPaths(operands);
  const request: ExplainRequest = { url, method: flags.method, headers: flags.header };
  const explanation =
    flags.control === undefined
      ? await explainFiles(request, [...(flags.file ?? []), ...paths], flags)
      : await askControl(request, flags.control);
  process.stdout.write(
    flags.json ? `${JSON.stringify(explanation, undefined, 2)}\n` : printExplanation(explanation),
  );
}

async function explainFiles(
  request: ExplainRequest,
  paths: readonly string[],
  flags: Flags,
): Promise<Explanation> {
  const options = compileOptions(flags);
  const { model, diagnostics: ofReading } = await readCluster(paths);
  const { compile } = await import("../../control/compile/compile.ts");
  const { explain } = await import("../../control/explain.ts");
  const { config, diagnostics } = compile(model, options);
  const unread = ofReading.filter(({ severity }) => severity === "error");
  process.stderr.write(unread.map((diagnostic) => `${formatDiagnostic(diagnostic)}\n`).join(""));
  const explanation = explain(config, request, diagnostics);
  if (explanation === undefined)
    throw new UsageError(`${JSON.stringify(request.url)} is not a URL with a host.`);
  return explanation;
}

/** `-f a b URL` leaves `b` among the operands. The URL is the one with a scheme, or else the last. */
function tellUrlFromPaths(operands: readonly string[]): {
  readonly url: string;
  readonly paths: readonly string[];
} {
  const withScheme = operands.findIndex((operand) => /^https?:\/\//i.test(operand));
  const index = withScheme === -1 ? operands.length - 1 : withScheme;
  return { url: operands[index] ?? "", paths: operands.filter((_, at) => at !== index) };
}

/** `GET /v1/explain?url=…&method=…&header=Name: value`; the answer is an Explanation. */
async function askControl(request: ExplainRequest, control: string): Promise<Explanation> {
  if (!URL.canParse(control))
    throw new UsageError(`--control takes the URL of a control service, not ${JSON.stringify(control)}.`);
  const target = new URL("/v1/explain", control);
  target.searchParams.set("url", request.url);
  target.searchParams.set("method", request.method);
  for (const [name, value] of request.headers) target.searchParams.append("header", `${name}: ${value}`);
  const token = process.env.FAIRLEAD_CONTROL_TOKEN;
  const headers: Record<string, string> = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  const response = await fetch(target, { headers }).catch((error: unknown) => {
    throw new CommandFailure(`The control service at ${control} cannot be reached: ${reasonOf(error)}.`);
  });
  if (!response.ok) {
    throw new CommandFailure(
      `The control service at ${control} answered ${response.status}: ${(await response.text()).slice(0, 300)}`,
    );
  }
  return (await response.json()) as Explanation;
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}

function printExplanation({
  request,
  answer,
  host,
  route,
  filters,
  backend,
  diagnostics,
}: Explanation): string {
  const { method, scheme, host: asked, path, normalisedPath } = request;
  const lines = [`${method} ${scheme}://${asked}${path}`];
  if (normalisedPath !== undefined && normalisedPath !== path)
    lines.push(`path      ${normalisedPath} (what every decision is made by)`);
  if (host !== undefined) lines.push(`host      ${host.name}: ${host.why}`);
  if (route !== undefined) {
    const by = route.ingress === undefined ? "the operator's default backend" : `Ingress ${route.ingress}`;
    lines.push(`route     ${route.pathType} ${route.path} of ${by}: ${route.why}`);
    lines.push(...route.order.map((one) => `            ${one}`));
  }
  lines.push(filters.length === 0 ? "filters   none" : "filters");
  lines.push(
    ...filters.map(({ name, level, policy }) => `            ${name} (${level}): ${JSON.stringify(policy)}`),
  );
  if (backend !== undefined) {
    lines.push(`backend   ${backend.name}: ${backend.why}`);
    if (backend.policies !== undefined) lines.push(`            ${JSON.stringify(backend.policies)}`);
    lines.push(...backend.endpoints.map((endpoint) => `            ${endpoint}`));
  }
  if (answer !== undefined) lines.push(`answer    ${answer.status}: ${answer.why}`);
  lines.push(...diagnostics.map(formatDiagnostic));
  return `${lines.join("\n")}\n`;
}
