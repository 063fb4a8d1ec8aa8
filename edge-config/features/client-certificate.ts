/**
 * Certificates that clients of a host must show (ingress-nginx `auth-tls-*`). Who ends TLS verifies them (Cloudflare, or
 * the front of `fairlead dev`) and tells the Worker, which decides. The authority's key is nobody's secret, so all of it
 * may be read.
 */
export interface ClientCertificatePolicy {
  /** `namespace/name` of the Secret with the authorities. `fairlead dev` verifies by it; the Worker never reads it. */
  readonly secret: string;
  /**
   * - `on`: no request without a right certificate.
   * - `optional`: a certificate may be missing, and must not be wrong.
   * - `optional_no_ca`: it may also be of an unknown authority; the pod is told.
   * - `off`: none is asked for.
   */
  readonly verifies: "on" | "optional" | "optional_no_ca" | "off";
  /** Certificates between the client's and the authority's (nginx `ssl_verify_depth`). */
  readonly depth: number;
  /**
   * The authorities of the Secret: the certificate's issuer must be one of them, so that an authority which whoever ends
   * TLS believes for another host opens nothing here. Never empty.
   */
  readonly issuers: readonly CertificateIssuer[];
  /** A pattern (PCRE, found anywhere) that the subject's distinguished name must match; else 403. */
  readonly subjectPattern?: string;
  /** Where a client without a right certificate is sent (302), in place of 400. */
  readonly errorLocation?: string;
  /** Pods get the certificate itself, in `ssl-client-cert`. */
  readonly passesCertificate: boolean;
}

export interface CertificateIssuer {
  /** Subject key identifier, upper-case hexadecimal without colons; absent where the authority has none. */
  readonly keyId?: string;
  /** Subject, as RFC 2253 writes it. */
  readonly name: string;
}
