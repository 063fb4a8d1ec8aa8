/**
 * Client certificates. Reference §1, `auth-tls-secret` and what belongs to it. A host's, like nginx's server level.
 *
 * Control reads the authorities' names and key identifiers out of the Secret; keys are not in it. What is written and
 * cannot be honoured denies the whole host (403), as in ingress-nginx.
 */

import type { CertificateIssuer } from "../../edge-config/features/client-certificate.ts";
import { compilePattern } from "../../edge-config/pattern/loaded.ts";
import { type Reader, unreadable, value } from "../annotations/reader.ts";
import { choice, flag, integer, quote, reference } from "../annotations/readers.ts";
import { readCertificates } from "../certificates.ts";
import { defineFeature, deny } from "./feature.ts";

export const clientCertificate = defineFeature("clientCertificate", {
  scope: "host",
  onInvalid: "deny",
  doc: "Lets only clients with a certificate of the Secret's authorities in. Who ends TLS verifies it: Cloudflare (switch mTLS on for the host and upload the authority), and `fairlead dev --protocol https` by the Secret itself.",
  annotations: {
    "auth-tls-secret": reference(
      "The Secret whose `ca.crt` says who may have signed clients' certificates.",
      "Secret",
      {
        difference:
          "At the edge Cloudflare verifies, so mTLS must be switched on for the host and the authority uploaded there; a certificate of any other authority is refused, and intermediate ones belong into `ca.crt`. " +
          "Revocation is Cloudflare's list; `ca.crl` counts in `fairlead dev` alone. Over plain http, where no certificate can come, requests are redirected to https.",
      },
    ),
    "auth-tls-verify-client": choice(
      "Whether a certificate is demanded: `optional` lets clients without one pass, `optional_no_ca` those of unknown authorities too.",
      ["on", "off", "optional", "optional_no_ca"],
      { default: "on", unreadable: "on" },
    ),
    "auth-tls-verify-depth": integer(
      "How many certificates may stand between the client's and the authority's.",
      {
        default: 1,
        ignoreUnreadable: true,
        difference: "Cloudflare sets the depth of chains itself; in `fairlead dev` it counts.",
      },
    ),
    "auth-tls-error-page": errorPage("Where a client without a right certificate is sent, instead of 400."),
    "auth-tls-pass-certificate-to-upstream": flag("Sends the certificate to pods, in `ssl-client-cert`.", {
      default: false,
      ignoreUnreadable: true,
    }),
    "auth-tls-match-cn": subjectPattern(
      "A pattern that the certificate's subject must match; 403 otherwise.",
    ),
  },
  compile(annotations, { secret, remark }) {
    const named = annotations["auth-tls-secret"];
    if (named === undefined) {
      for (const name of ["auth-tls-match-cn", "auth-tls-error-page"] as const) {
        if (annotations[name] !== undefined)
          remark("warning", name, "does nothing without auth-tls-secret, as in ingress-nginx.");
      }
      return undefined;
    }
    const found = secret(named);
    if (found.kind === "Missing") return deny(found.reason, "auth-tls-secret");
    const text = found.object.data.get("ca.crt");
    if (text === undefined) return deny(`Secret ${found.name} has no ca.crt`, "auth-tls-secret");
    const authorities = readCertificates(text);
    if (authorities === undefined || authorities.length === 0)
      return deny(`ca.crt of Secret ${found.name} holds no certificates in PEM`, "auth-tls-secret");
    const pattern = annotations["auth-tls-match-cn"];
    const errorLocation = annotations["auth-tls-error-page"];
    return {
      secret: found.name,
      verifies: annotations["auth-tls-verify-client"],
      depth: annotations["auth-tls-verify-depth"],
      issuers: authorities.map(
        ({ keyId, subject }): CertificateIssuer => ({
          ...(keyId === undefined ? {} : { keyId }),
          name: subject,
        }),
      ),
      ...(pattern === undefined ? {} : { subjectPattern: pattern }),
      ...(errorLocation === undefined ? {} : { errorLocation }),
      passesCertificate: annotations["auth-tls-pass-certificate-to-upstream"],
    };
  },
});

/** ingress-nginx wants it to begin with `CN=`; nginx finds it anywhere in the subject. */
function subjectPattern(doc: string): Reader<string> {
  return {
    type: "CN= and a regular expression",
    doc,
    maxLength: 1024,
    options: {},
    read(text) {
      if (!text.startsWith("CN=")) return unreadable("CN= and a regular expression");
      const compiled = compilePattern(text, { ignoreCase: false });
      return compiled.kind === "pattern"
        ? value(text)
        : unreadable(`a regular expression that can be honoured exactly (it ${compiled.reason})`);
    },
  };
}

/** A named location (`@name`) is of nginx's own configuration, which nobody here has. */
function errorPage(doc: string): Reader<string> {
  const expected = "an http or https URL";
  return {
    type: "URL",
    doc,
    maxLength: 2048,
    options: {
      difference: "Named locations (`@name`) are nginx's own; with one, the answer is 400.",
      ignoreUnreadable: true,
    },
    read(text) {
      if (text.startsWith("@"))
        return unreadable(`${expected}, and ${quote(text)} names a location of nginx`);
      const isUrl =
        /^https?:\/\/[A-Za-z0-9[]/.test(text) && !/[\s"'<>\\^`{|}$]/.test(text) && URL.canParse(text);
      return isUrl ? value(text) : unreadable(expected);
    },
  };
}
