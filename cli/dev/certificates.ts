/**
 * Which certificate a TLS client gets, by the name that it asks for (SNI).
 *
 * In: the cluster model, again after every change. Out: TLS contexts, and diagnostics for Secrets that hold none.
 * The rules are ingress-nginx's: the Secret of the Ingress whose `tls` lists the name, exactly or by a wildcard; else any
 * Secret of an Ingress with a rule for the name, if its certificate is for that name; else the certificate of our own.
 */

import { X509Certificate } from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { ClusterModel, Ingress, ObjectName, Secret } from "../../cluster/model.ts";
import { type CertificateAndKey, createSelfSignedCertificate } from "./self-signed.ts";

interface Certificate extends CertificateAndKey {
  readonly context: SecureContext;
  readonly leaf: X509Certificate;
}

const OWN_NAMES = ["localhost", "*.localhost", "127.0.0.1"];

export class Certificates {
  readonly own = createSelfSignedCertificate(OWN_NAMES);
  readonly #ownContext = createSecureContext(this.own);
  #listed: ReadonlyMap<string, Certificate> = new Map();
  #offered: ReadonlyMap<string, readonly Certificate[]> = new Map();
  /** By the Secret's very object, which stays the same while it does not change. */
  readonly #known = new WeakMap<Secret, Certificate | Diagnostic>();

  /** Takes the certificates of a model; the answer is what is wrong with them. */
  update(model: ClusterModel): readonly Diagnostic[] {
    const diagnostics: Diagnostic[] = [];
    const listed = new Map<string, Certificate>();
    const offered = new Map<string, Certificate[]>();
    for (const [name, ingress] of model.ingresses) {
      for (const [index, tls] of ingress.tls.entries()) {
        if (tls.secretName === undefined) continue;
        const secretName: ObjectName = `${ingress.meta.namespace}/${tls.secretName}`;
        const secret = model.secrets.get(secretName);
        const certificate =
          secret === undefined ? missing(name, index, secretName) : this.#certificateOf(secret, secretName);
        if ("message" in certificate) {
          diagnostics.push(certificate);
          continue;
        }
        for (const host of tls.hosts) if (!listed.has(host)) listed.set(host, certificate);
        for (const host of hostsOf(ingress)) offered.set(host, [...(offered.get(host) ?? []), certificate]);
      }
    }
    this.#listed = listed;
    this.#offered = offered;
    return diagnostics;
  }

  /** The context for a server name; undefined is a client that sent none. */
  contextFor(serverName: string | undefined): SecureContext {
    return this.#certificateFor(serverName)?.context ?? this.#ownContext;
  }

  /** The certificate for a server name, as PEM. */
  pemFor(serverName: string | undefined): CertificateAndKey {
    return this.#certificateFor(serverName) ?? this.own;
  }

  #certificateFor(serverName: string | undefined): Certificate | undefined {
    const name = (serverName ?? "").toLowerCase();
    const wildcard = `*${name.slice(Math.max(0, name.indexOf(".")))}`;
    return (
      this.#listed.get(name) ??
      this.#listed.get(wildcard) ??
      [...(this.#offered.get(name) ?? []), ...(this.#offered.get(wildcard) ?? [])].find(
        ({ leaf }) => leaf.checkHost(name) !== undefined,
      )
    );
  }

  #certificateOf(secret: Secret, name: ObjectName): Certificate | Diagnostic {
    let certificate = this.#known.get(secret);
    if (certificate === undefined) {
      certificate = readCertificate(secret, name);
      this.#known.set(secret, certificate);
    }
    return certificate;
  }
}

function readCertificate(secret: Secret, name: ObjectName): Certificate | Diagnostic {
  const cert = secret.data.get("tls.crt");
  const key = secret.data.get("tls.key");
  const wrong = (field: string, problem: string): Diagnostic => ({
    severity: "warning",
    kind: "Secret",
    object: name,
    field,
    message: `${problem}; clients get the self-signed certificate`,
  });
  if (cert === undefined) return wrong('data["tls.crt"]', "a certificate is expected and there is none");
  if (key === undefined) return wrong('data["tls.key"]', "a key is expected and there is none");
  try {
    const leaf = new X509Certificate(cert);
    const pem = { cert: Buffer.from(cert).toString("utf8"), key: Buffer.from(key).toString("utf8") };
    return { leaf, ...pem, context: createSecureContext(pem) };
  } catch {
    // OpenSSL's words would tell of the key's inside.
    return wrong("data", "tls.crt and tls.key are no certificate in PEM with its key");
  }
}

function missing(ingress: ObjectName, index: number, secret: ObjectName): Diagnostic {
  return {
    severity: "warning",
    kind: "Ingress",
    object: ingress,
    field: `spec.tls[${index}].secretName`,
    message: `there is no Secret ${secret}; clients get the self-signed certificate`,
  };
}

function hostsOf(ingress: Ingress): ReadonlySet<string> {
  return new Set(ingress.rules.map((rule) => rule.host).filter((host) => host !== ""));
}
