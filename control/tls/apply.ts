/**
 * Brings a Cloudflare zone to what a TLS report says: custom hostnames for names of no zone, and Secrets' certificates
 * uploaded where the operator asks for it.
 *
 * In: the report, the Secrets, a zone. Out: one line for each thing done or failed. What is there already stays; nothing is
 * ever deleted, since names may belong to somebody else. Run again, it does nothing.
 */

import { X509Certificate } from "node:crypto";
import type { ClusterModel, ObjectName } from "../../cluster/model.ts";
import type { CustomCertificate, UploadedCertificate, ZoneTls } from "./cloudflare.ts";
import type { HostTls, TlsReport } from "./report.ts";

export interface ApplyOptions {
  /** Create custom hostnames for hosts of no zone. */
  readonly customHostnames: boolean;
  /** Upload Secrets' certificates (Business and Enterprise plans). */
  readonly uploadCertificates: boolean;
  /** Ask what there is, and change nothing. */
  readonly dryRun: boolean;
}

export interface AppliedStep {
  readonly kind: "done" | "planned" | "unchanged" | "failed";
  /** A sentence without its full stop. */
  readonly text: string;
}

export async function applyTls(
  report: TlsReport,
  model: Pick<ClusterModel, "secrets">,
  zone: ZoneTls,
  options: ApplyOptions,
): Promise<readonly AppliedStep[]> {
  const steps: AppliedStep[] = [];
  const change = async (text: string, action: () => Promise<unknown>): Promise<void> => {
    if (options.dryRun) {
      steps.push({ kind: "planned", text });
      return;
    }
    try {
      await action();
      steps.push({ kind: "done", text });
    } catch (error) {
      steps.push({
        kind: "failed",
        text: `${text}: ${error instanceof Error ? error.message : String(error)}`,
      });
    }
  };

  if (options.customHostnames) {
    const known = new Map((await zone.customHostnames()).map((one) => [one.hostname, one]));
    for (const host of report.hosts) {
      if (host.edge.kind !== "customHostname") continue;
      const there = known.get(host.host);
      if (there !== undefined) {
        steps.push({
          kind: "unchanged",
          text: `custom hostname ${host.host} is there (certificate: ${there.status ?? "none"})`,
        });
        continue;
      }
      const own = options.uploadCertificates ? certificateFor(host, model) : undefined;
      const source =
        own === undefined ? "a certificate that Cloudflare orders" : `the certificate of ${own.name}`;
      await change(`create custom hostname ${host.host} with ${source}`, () =>
        zone.createCustomHostname(host.host, own),
      );
    }
  }
  if (options.uploadCertificates) {
    const known = await zone.customCertificates();
    const uploads = new Map<ObjectName, NamedCertificate>();
    for (const host of report.hosts) {
      if (host.edge.kind !== "universal" && host.edge.kind !== "advanced") continue;
      const own = certificateFor(host, model);
      if (own !== undefined) uploads.set(own.name, own);
    }
    for (const [name, own] of uploads) {
      const hosts = dnsNames(own.certificate);
      const there = known.find((one) => sameHosts(one, hosts));
      if (there === undefined)
        await change(`upload the certificate of ${name} for ${hosts.join(", ")}`, () =>
          zone.uploadCertificate(own),
        );
      else if (Date.parse(there.expiresOn) === Date.parse(new X509Certificate(own.certificate).validTo))
        steps.push({ kind: "unchanged", text: `the certificate of ${name} is there` });
      else
        await change(`replace the certificate for ${hosts.join(", ")} by that of ${name}`, () =>
          zone.replaceCertificate(there.id, own),
        );
    }
  }
  return steps;
}

interface NamedCertificate extends UploadedCertificate {
  readonly name: ObjectName;
}

/** The host's Secret, where its certificate is for the host and has not ended. */
function certificateFor(
  { secret }: HostTls,
  model: Pick<ClusterModel, "secrets">,
): NamedCertificate | undefined {
  if (secret?.kind !== "certificate" || !secret.isForHost || Date.parse(secret.notAfter) < Date.now())
    return undefined;
  const data = model.secrets.get(secret.name)?.data;
  const [certificate, privateKey] = ["tls.crt", "tls.key"].map((field) => {
    const bytes = data?.get(field);
    return bytes === undefined ? undefined : Buffer.from(bytes).toString("utf8");
  });
  if (certificate === undefined || privateKey === undefined) return undefined;
  return { name: secret.name, certificate, privateKey };
}

function dnsNames(pem: string): readonly string[] {
  return (new X509Certificate(pem).subjectAltName ?? "")
    .split(", ")
    .flatMap((part) => (part.startsWith("DNS:") ? part.slice(4) : []))
    .sort();
}

function sameHosts({ hosts }: CustomCertificate, wanted: readonly string[]): boolean {
  return hosts.length === wanted.length && [...hosts].sort().every((host, index) => host === wanted[index]);
}
