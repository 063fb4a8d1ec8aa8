/**
 * Client certificates, as nginx's server level has them: 400 for a missing or wrong one, 403 for a wrong subject, and what
 * pods are told about the right ones.
 *
 * Who ended TLS tells what came, in `request.cf.tlsClientAuth`; where nothing is told, no certificate came. A verdict is
 * believed only for an issuer that the policy names. Source of the fields:
 * https://developers.cloudflare.com/ssl/client-certificates/client-certificate-variables
 */

import type { ClientCertificatePolicy } from "../../edge-config/features/client-certificate.ts";
import { compilePattern } from "../../edge-config/pattern/pattern.ts";
import { detailedErrorPage, redirectPage } from "../error-page.ts";
import type { HostFilterFor } from "./filter.ts";
import { requestUri } from "./location.ts";

/** The part of `request.cf` that counts. Any of it may be missing where mTLS is not switched on. */
interface ClientAuth {
  readonly certPresented?: string;
  readonly certVerified?: string;
  readonly certRevoked?: string;
  readonly certSubjectDNRFC2253?: string;
  readonly certIssuerDNRFC2253?: string;
  readonly certIssuerSKI?: string;
  readonly certRFC9440?: string;
}

type Verdict = "SUCCESS" | "NONE" | `FAILED:${string}`;

export const clientCertificate: HostFilterFor<"clientCertificate"> = (policy) => {
  const subject = subjectTest(policy.subjectPattern);
  return {
    onRequest(visit) {
      const isTls = visit.target.scheme === "https";
      const auth = isTls ? clientAuthOf(visit.request, policy) : {};
      // nginx asks for certificates in handshakes alone, so its plain http is open. Here it leads to where they are asked for.
      if (!isTls && policy.verifies === "on" && subject === undefined)
        return redirectPage(308, `https://${visit.target.host}${requestUri(visit)}`);
      if (isTls) {
        const refusal = refusalOf(verdictOf(auth, policy), policy.verifies);
        if (refusal !== undefined)
          return policy.errorLocation === undefined
            ? detailedErrorPage(400, refusal)
            : redirectPage(302, policy.errorLocation);
      }
      if (subject !== undefined && !subject(auth.certSubjectDNRFC2253 ?? "")) {
        return new Response("client certificate unauthorized", {
          status: 403,
          headers: { "Content-Type": "text/html" },
        });
      }
      return undefined;
    },
    onRoute({ request, target, upstream }) {
      const auth = target.scheme === "https" ? clientAuthOf(request, policy) : {};
      const has = auth.certPresented === "1";
      const told: readonly (readonly [string, string])[] = [
        ["ssl-client-verify", target.scheme === "https" ? verdictOf(auth, policy) : ""],
        ["ssl-client-subject-dn", has ? (auth.certSubjectDNRFC2253 ?? "") : ""],
        ["ssl-client-issuer-dn", has ? (auth.certIssuerDNRFC2253 ?? "") : ""],
        ["ssl-client-cert", has && policy.passesCertificate ? escapedPem(auth.certRFC9440 ?? "") : ""],
      ];
      // What a client says of itself under these names never passes.
      for (const [name, value] of told) {
        if (value === "") upstream.removeHeader(name);
        else upstream.setHeader(name, value);
      }
    },
  };
};

function clientAuthOf({ cf }: Request, { verifies }: ClientCertificatePolicy): ClientAuth {
  if (verifies === "off") return {};
  return (cf as { readonly tlsClientAuth?: ClientAuth | null } | undefined)?.tlsClientAuth ?? {};
}

/** nginx's `$ssl_client_verify`. */
function verdictOf(auth: ClientAuth, { issuers }: ClientCertificatePolicy): Verdict {
  if (auth.certPresented !== "1") return "NONE";
  const told = auth.certVerified ?? "";
  if (auth.certRevoked === "1") return "FAILED:certificate revoked";
  if (told !== "SUCCESS") return told.startsWith("FAILED:") ? (told as Verdict) : "FAILED:not verified";
  const keyId = (auth.certIssuerSKI ?? "").replaceAll(":", "").toUpperCase();
  const isKnown = issuers.some((issuer) =>
    issuer.keyId !== undefined && keyId !== ""
      ? issuer.keyId === keyId
      : issuer.name === auth.certIssuerDNRFC2253,
  );
  return isKnown ? "SUCCESS" : `FAILED:${UNKNOWN_AUTHORITY}`;
}

const UNKNOWN_AUTHORITY = "unable to get local issuer certificate";

/** What `optional_no_ca` puts up with (nginx's `ngx_ssl_verify_error_optional`), in OpenSSL's words of several versions. */
const AUTHORITY_ERRORS: ReadonlySet<string> = new Set(
  [
    "self signed certificate",
    "self signed certificate in certificate chain",
    "self-signed certificate",
    "self-signed certificate in certificate chain",
    "certificate not trusted",
    "unable to verify the first certificate",
    UNKNOWN_AUTHORITY,
  ].map((reason) => `FAILED:${reason}`),
);

/** The sentence of nginx's 400 page, or undefined for who may come in. */
function refusalOf(verdict: Verdict, verifies: ClientCertificatePolicy["verifies"]): string | undefined {
  if (verifies === "off" || verdict === "SUCCESS") return undefined;
  if (verdict === "NONE") return verifies === "on" ? "No required SSL certificate was sent" : undefined;
  if (verifies === "optional_no_ca" && AUTHORITY_ERRORS.has(verdict)) return undefined;
  return "The SSL certificate error";
}

/** Undefined without a pattern. PCRE looks for a match anywhere; ours are anchored at the start. */
function subjectTest(pattern: string | undefined): ((subject: string) => boolean) | undefined {
  if (pattern === undefined) return undefined;
  const compiled = compilePattern(`(?s:.*?)(?:${pattern})`, { ignoreCase: false });
  return compiled.kind === "refused" ? () => false : (subject) => compiled.pattern.test(subject);
}

/** nginx's `$ssl_client_escaped_cert`: the certificate in PEM, escaped as a part of a URL. From `:base64:` of RFC 9440. */
function escapedPem(byteSequence: string): string {
  const base64 = /^:([A-Za-z0-9+/=]+):$/.exec(byteSequence)?.[1];
  if (base64 === undefined) return "";
  const lines = base64.replaceAll(/.{64}(?=.)/g, "$&\n");
  return encodeURIComponent(`-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`);
}
