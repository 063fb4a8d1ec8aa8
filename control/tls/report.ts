/**
 * Which host needs which certificate at the edge, and what the Secrets of `spec.tls` have to do with it.
 *
 * In: the cluster, its compiled configuration, the zones that the operator has at Cloudflare. Out: one entry a host, in the
 * order of the alphabet. Pure. TLS with clients ends at Cloudflare, which brings certificates of its own for names of a
 * zone; a Secret's certificate is needed only where it is uploaded (`apply.ts`), in `fairlead dev`, and by pods.
 */

import type { ClusterModel, Ingress, ObjectName, Secret } from "../../cluster/model.ts";
import { ANY_HOST, type EdgeConfig, type HostConfig } from "../../edge-config/config.ts";
import { readCertificates } from "../certificates.ts";

export interface TlsReport {
  readonly hosts: readonly HostTls[];
}

export interface HostTls {
  readonly host: string;
  readonly ingresses: readonly ObjectName[];
  readonly edge: EdgeCertificate;
  /** The Secret that `spec.tls` names for this host. */
  readonly secret?: SecretCertificate;
  /** `auth-tls-secret`: mTLS must be switched on for the host, and this authority uploaded. */
  readonly clientAuthority?: string;
}

/**
 * - `universal`: a zone's own certificate (the apex and one label below it).
 * - `advanced`: deeper in a zone; Advanced Certificate Manager or Total TLS orders it.
 * - `customHostname`: of no zone of the operator's; Cloudflare for SaaS orders it.
 * - `passthrough`: none, TLS ends at the pods.
 * - `unknown`: no zone was named.
 */
export type EdgeCertificate =
  | { readonly kind: "universal" | "advanced"; readonly zone: string }
  | { readonly kind: "customHostname" | "passthrough" | "unknown" };

export type SecretCertificate = { readonly name: ObjectName } & (
  | { readonly kind: "missing" | "unreadable" }
  | {
      readonly kind: "certificate";
      readonly subject: string;
      /** RFC 3339. */
      readonly notAfter: string;
      readonly isForHost: boolean;
    }
);

export function reportTls(
  model: Pick<ClusterModel, "ingresses" | "secrets">,
  config: EdgeConfig,
  zones: readonly string[],
): TlsReport {
  const asked = new Map<string, { readonly ingresses: Set<ObjectName>; secret?: ObjectName }>();
  const ask = (host: string, ingress: ObjectName, secret?: ObjectName): void => {
    const entry = asked.get(host) ?? { ingresses: new Set<ObjectName>() };
    asked.set(host, entry);
    entry.ingresses.add(ingress);
    if (secret !== undefined) entry.secret ??= secret;
  };
  for (const [name, ingress] of model.ingresses) {
    for (const { hosts, secretName } of ingress.tls) {
      const secret: ObjectName | undefined =
        secretName === undefined ? undefined : `${ingress.meta.namespace}/${secretName}`;
      // A section without hosts speaks of the rules' own.
      for (const host of hosts.length > 0 ? hosts : ruleHosts(ingress)) ask(host, name, secret);
    }
    for (const host of ruleHosts(ingress)) if (needsTls(config.hosts[host])) ask(host, name);
  }
  const hosts = [...asked]
    .filter(([host]) => host !== "" && host !== ANY_HOST)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([host, { ingresses, secret }]): HostTls => {
      const found = config.hosts[host];
      const authority = found?.policies?.clientCertificate?.secret;
      return {
        host,
        ingresses: [...ingresses].sort(),
        edge: found?.sslPassthrough === undefined ? edgeCertificate(host, zones) : { kind: "passthrough" },
        ...(secret === undefined
          ? {}
          : { secret: secretCertificate(host, secret, model.secrets.get(secret)) }),
        ...(authority === undefined ? {} : { clientAuthority: authority }),
      };
    });
  return { hosts };
}

function ruleHosts(ingress: Ingress): readonly string[] {
  return ingress.rules.map(({ host }) => host).filter((host) => host !== "");
}

function needsTls(host: HostConfig | undefined): boolean {
  return host?.sslPassthrough !== undefined || host?.policies?.clientCertificate !== undefined;
}

/** Cloudflare's Universal SSL covers a zone's name and one label below it. */
function edgeCertificate(host: string, zones: readonly string[]): EdgeCertificate {
  if (zones.length === 0) return { kind: "unknown" };
  const zone = zones
    .filter((name) => host === name || host.endsWith(`.${name}`))
    .sort((a, b) => b.length - a.length)[0];
  if (zone === undefined) return { kind: "customHostname" };
  const labels = host === zone ? 0 : host.slice(0, -zone.length - 1).split(".").length;
  return { kind: labels <= 1 ? "universal" : "advanced", zone };
}

function secretCertificate(host: string, name: ObjectName, secret: Secret | undefined): SecretCertificate {
  if (secret === undefined) return { name, kind: "missing" };
  const pem = secret.data.get("tls.crt");
  const [leaf] = (pem && readCertificates(pem)) ?? [];
  if (leaf === undefined || !secret.data.has("tls.key")) return { name, kind: "unreadable" };
  return {
    name,
    kind: "certificate",
    subject: leaf.subject,
    notAfter: new Date(leaf.certificate.validTo).toISOString(),
    isForHost: coversHost(leaf.certificate.subjectAltName ?? "", host),
  };
}

/** By its alternative names alone, as browsers do (RFC 6125). */
function coversHost(subjectAltName: string, host: string): boolean {
  const names = subjectAltName
    .split(", ")
    .flatMap((part) => (part.startsWith("DNS:") ? part.slice(4).toLowerCase() : []));
  const dot = host.indexOf(".");
  return names.includes(host) || (dot > 0 && names.includes(`*${host.slice(dot)}`));
}
