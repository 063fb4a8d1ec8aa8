/**
 * `fairlead tls report` and `fairlead tls apply`: which host needs which certificate at the edge, and the calls to
 * Cloudflare that bring them there. Nothing is called without `apply` and its switches.
 */

import type { Command } from "commander";
import { formatDiagnostic } from "../../cluster/diagnostic.ts";
import type { ClusterModel } from "../../cluster/model.ts";
import type { HostTls, SecretCertificate, TlsReport } from "../../control/tls/report.ts";
import { EXIT_FAILURE, UsageError } from "../failure.ts";
import {
  addCompilerOptions,
  addFileOption,
  compileOptions,
  type FileFlags,
  readCluster,
} from "../manifest-input.ts";

interface ReportFlags extends FileFlags {
  readonly zone?: readonly string[];
  readonly json?: true;
}

interface ApplyFlags extends ReportFlags {
  readonly zoneId: string;
  readonly customHostnames?: true;
  readonly uploadCertificates?: true;
  readonly dryRun?: true;
  readonly api: string;
}

export function registerTls(program: Command): void {
  const tls = program
    .command("tls")
    .summary("certificates at the edge")
    .description("Which host needs which certificate at the edge, from spec.tls and Secrets.");
  addInput(tls.command("report"))
    .description("Report for each host with TLS where its certificate comes from, and what its Secret holds.")
    .option("--json", "print the report as JSON")
    .action(async (morePaths: readonly string[], flags: ReportFlags) => {
      const { report } = await makeReport(morePaths, flags);
      process.stdout.write(flags.json ? `${JSON.stringify(report, undefined, 2)}\n` : printReport(report));
    });
  addInput(tls.command("apply"))
    .description(
      "Create what the report says is missing, in one zone of Cloudflare. What is there stays, and nothing is deleted.",
    )
    .requiredOption("--zone-id <id>", "the zone that serves the hosts")
    .option("--custom-hostnames", "create custom hostnames (Cloudflare for SaaS) for hosts of no zone")
    .option("--upload-certificates", "upload the certificates of Secrets, where the plan has it")
    .option("--dry-run", "tell what would be done")
    .option("--api <url>", "base URL of the API", "https://api.cloudflare.com/client/v4")
    .addHelpText(
      "after",
      `
From the environment only:
  FAIRLEAD_TLS_TOKEN  API token with "SSL and Certificates: Edit" for the zone`,
    )
    .action(async (morePaths: readonly string[], flags: ApplyFlags) => {
      const token = process.env.FAIRLEAD_TLS_TOKEN;
      if (token === undefined || token === "") throw new UsageError("FAIRLEAD_TLS_TOKEN is not set.");
      const { customHostnames = false, uploadCertificates = false } = flags;
      if (!customHostnames && !uploadCertificates)
        throw new UsageError("nothing is asked for: --custom-hostnames, --upload-certificates or both.");
      if ((flags.zone ?? []).length === 0)
        throw new UsageError("--zone NAME is missing: it tells which hosts need no custom hostname.");
      const { report, model } = await makeReport(morePaths, flags);
      const { createZoneTls } = await import("../../control/tls/cloudflare.ts");
      const { applyTls } = await import("../../control/tls/apply.ts");
      const zone = createZoneTls({ baseUrl: flags.api.replace(/\/$/, ""), zoneId: flags.zoneId, token });
      const steps = await applyTls(report, model, zone, {
        customHostnames,
        uploadCertificates,
        dryRun: flags.dryRun === true,
      });
      for (const { kind, text } of steps)
        (kind === "failed" ? process.stderr : process.stdout).write(`${kind}: ${text}\n`);
      if (steps.some(({ kind }) => kind === "failed")) process.exitCode = EXIT_FAILURE;
    });
}

function addInput(command: Command): Command {
  return addCompilerOptions(addFileOption(command))
    .argument("[paths...]", "more manifests")
    .option(
      "--zone <name>",
      "a zone of yours at Cloudflare; may be repeated",
      (name: string, before: readonly string[] = []) => [...before, name.toLowerCase().replace(/\.$/, "")],
    );
}

async function makeReport(
  morePaths: readonly string[],
  flags: ReportFlags,
): Promise<{ readonly report: TlsReport; readonly model: ClusterModel }> {
  const options = compileOptions(flags);
  const { model, diagnostics } = await readCluster([...(flags.file ?? []), ...morePaths]);
  const { compile } = await import("../../control/compile/compile.ts");
  const { reportTls } = await import("../../control/tls/report.ts");
  const errors = diagnostics.filter(({ severity }) => severity === "error");
  process.stderr.write(errors.map((diagnostic) => `${formatDiagnostic(diagnostic)}\n`).join(""));
  if (errors.length > 0) process.exitCode = EXIT_FAILURE;
  return { report: reportTls(model, compile(model, options).config, flags.zone ?? []), model };
}

function printReport({ hosts }: TlsReport): string {
  if (hosts.length === 0) return "No host asks for TLS.\n";
  return `${hosts.map(printHost).join("\n")}\n`;
}

function printHost({ host, ingresses, edge, secret, clientAuthority }: HostTls): string {
  return [
    `${host} (Ingress ${ingresses.join(", ")})`,
    `  edge: ${edgeWords(edge)}`,
    ...(secret === undefined ? [] : [`  Secret ${secret.name}: ${secretWords(secret)}`]),
    ...(clientAuthority === undefined
      ? []
      : [
          `  clients: mTLS must be on for this host at Cloudflare, with the authority of Secret ${clientAuthority}`,
        ]),
  ].join("\n");
}

function edgeWords(edge: HostTls["edge"]): string {
  switch (edge.kind) {
    case "universal":
      return `Universal SSL of the zone ${edge.zone} covers it`;
    case "advanced":
      return `too deep in the zone ${edge.zone} for Universal SSL: Advanced Certificate Manager or Total TLS`;
    case "customHostname":
      return "of no zone that was named: a custom hostname (Cloudflare for SaaS)";
    case "passthrough":
      return "none; TLS ends at the pods, by the gateway's passthrough port";
    case "unknown":
      return "depends on the zone; --zone NAME tells";
    default:
      return edge satisfies never;
  }
}

function secretWords(secret: SecretCertificate): string {
  switch (secret.kind) {
    case "missing":
      return "does not exist";
    case "unreadable":
      return "holds no certificate with its key";
    case "certificate":
      return `${secret.subject}, until ${secret.notAfter}${secret.isForHost ? "" : ", NOT for this host"}`;
    default:
      return secret satisfies never;
  }
}
