/**
 * `fairlead lint -f PATH...`: what becomes of each Ingress and annotation when its cluster leaves ingress-nginx.
 *
 * A report on stdout, for people or as JSON; what could not be read at all on stderr, and exit code 1 then. `--strict`
 * gives exit code 1 as well when an Ingress needs work.
 */

import type { Command } from "commander";
import { formatDiagnostic } from "../../cluster/diagnostic.ts";
import type { AnnotationReport, IngressReport, LintReport } from "../../control/lint/lint.ts";
import { EXIT_FAILURE } from "../failure.ts";
import {
  addCompilerOptions,
  addFileOption,
  compileOptions,
  type FileFlags,
  readCluster,
} from "../manifest-input.ts";

interface Flags extends FileFlags {
  readonly json?: true;
  readonly strict?: true;
}

export function registerLint(program: Command): void {
  const command = program
    .command("lint")
    .description(
      "Report what becomes of ingress-nginx annotations: honoured, with a difference, ignored or refused.",
    );
  addCompilerOptions(addFileOption(command))
    .argument("[paths...]", "more manifests")
    .option("--json", "print the report as JSON")
    .option("--strict", "exit with 1 when an Ingress needs work")
    .action(runLint);
}

async function runLint(morePaths: readonly string[], flags: Flags): Promise<void> {
  const options = compileOptions(flags);
  const { model, diagnostics } = await readCluster([...(flags.file ?? []), ...morePaths]);
  const { lint } = await import("../../control/lint/lint.ts");
  const report = lint(model, options);
  process.stderr.write(diagnostics.map((diagnostic) => `${formatDiagnostic(diagnostic)}\n`).join(""));
  process.stdout.write(flags.json ? `${JSON.stringify(report, undefined, 2)}\n` : printReport(report));
  const unread = diagnostics.some(({ severity }) => severity === "error");
  if (unread || (flags.strict && report.counts.ingresses["needs work"] > 0)) process.exitCode = EXIT_FAILURE;
}

function printReport(report: LintReport): string {
  const sections = report.ingresses.map(printIngress);
  if (report.configMap !== undefined) {
    const { name, settings } = report.configMap;
    sections.push([`ConfigMap ${name}`, ...settings.flatMap(printAnnotation)].join("\n"));
  }
  if (report.problems.length > 0) sections.push(report.problems.map(formatDiagnostic).join("\n"));
  return `${[...sections, report.summary].join("\n\n")}\n`;
}

function printIngress({ ingress, outcome, annotations, surprises, problems }: IngressReport): string {
  return [
    `Ingress ${ingress}: ${outcome}`,
    ...annotations.flatMap(printAnnotation),
    ...surprises.map(({ message }) => `  surprise: ${message}`),
    ...problems.map(
      ({ severity, field, message }) => `  ${severity}: ${field === undefined ? "" : `${field}: `}${message}`,
    ),
  ].join("\n");
}

function printAnnotation({
  name,
  value,
  verdict,
  reason,
  advice,
  snippet = [],
}: AnnotationReport): readonly string[] {
  const shown = value.replace(/\s+/g, " ").trim();
  const short = shown.length > 60 ? `${shown.slice(0, 57)}…` : shown;
  return [
    `  ${verdict}: ${name.replace("nginx.ingress.kubernetes.io/", "")}: ${JSON.stringify(short)}`,
    `      ${[reason, advice].filter(Boolean).join(" ")}`,
    ...snippet.map(({ directive, instead, note }) => {
      const words =
        instead === undefined
          ? (note ?? "")
          : note === undefined
            ? `write ${instead}`
            : `write ${instead} (${note})`;
      return `      ${directive} → ${words}`;
    }),
  ];
}
